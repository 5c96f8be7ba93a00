"""Tests rollbacks: the counts that they name, and where each device is sent."""

import pytest

from tests.service.routes import assert_is_problem
from tests.service.site import D2, D, P, Site
from tests.service.steered import check_in, post


async def test_a_rollback_names_counts_and_sends_back(fleet: Site) -> None:
    await fleet.report({"version": "1.2.0"})
    await fleet.report({"version": "1.2.0"}, caller="operator", path=D2)
    await fleet.call("PATCH", D2, caller="operator", json={"pinned": "1.1.0"})
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns"}
    tried = await post(fleet, "rollbacks", {**wanted, "dry_run": True})
    assert tried.json == {
        "rollout": None,
        "devices": {"named": 2, "pinned": 1, "silent": 0, "no_previous": 0},
        "returns": [{"version": "1.0.0", "devices": 1}],
    }
    assert (await fleet.get(f"{P}/releases/m/1.2.0")).json["withdrawn"] is False
    begun = await post(fleet, "rollbacks", wanted)
    assert begun.status == 201
    assert (await fleet.get(f"{P}/releases/m/1.2.0")).json["withdrawn"] is True
    answered = (await check_in(fleet)).json
    assert (answered["action"], answered["version"]) == ("rollback", "1.0.0")
    await fleet.report({"version": "1.0.0"})
    found = (await fleet.get(f"{P}/rollouts/{begun.json['rollout']}")).json
    assert (found["kind"], found["reason"]) == ("rollback", "it burns")
    lines = (await fleet.get(f"{P}/events", "auditor")).body.splitlines()
    at = next(n for n, line in enumerate(lines) if b"RollbackStarted" in line)
    await fleet.call("DELETE", f"{P}/events/{at}/text", caller="admin")
    again = await fleet.get(f"{P}/rollouts/{begun.json['rollout']}")
    assert again.json["reason"] == "erased"
    assert found["devices"] == {"named": 1, "pinned": 1, "silent": 0, "no_previous": 0}
    assert (found["progress"]["matching"], found["progress"]["installed"]) == (2, 1)
    history = (await fleet.get(f"{D}/history")).json["items"]
    assert [line["change"] for line in history] == ["rollback", "upgrade", "first"]


async def test_a_device_without_a_previous_version_is_counted_and_gets_the_reason(
    fleet: Site,
) -> None:
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "old"})
    await fleet.report({"version": "1.2.0"})
    wanted = {"bad_version": "1.2.0", "model": "m"}
    tried = await post(fleet, "rollbacks", {**wanted, "dry_run": True})
    assert tried.json["devices"] == {"named": 1, "pinned": 0, "silent": 0, "no_previous": 1}
    assert_is_problem(await post(fleet, "rollbacks", wanted), 422)
    await post(fleet, "rollbacks", wanted | {"reason": "it burns"})
    assert (await check_in(fleet)).json["reason"] == "no_previous"


async def test_a_previous_version_that_failed_is_replaced_and_counted(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0"}, {"version": "1.2.0"})
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns"}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]

    async def outcome() -> tuple[str | None, str, int]:
        """Returns what the device gets, and how many devices have no previous version."""
        answer = (await check_in(fleet)).json
        found = (await fleet.get(f"{P}/rollouts/{rollback}")).json
        shown = found["devices"]
        way = answer["version"]
        assert found["returns"] == ([{"version": way, "devices": 1}] if way else [])
        tried = (await post(fleet, "rollbacks", {**wanted, "dry_run": True})).json["devices"]
        assert shown["named"] == tried["named"] == 1
        assert shown["no_previous"] == tried["no_previous"]
        return answer["version"], answer["reason"], shown["no_previous"]

    assert await outcome() == ("1.1.0", "rollback", 0)
    second = {**wanted, "bad_version": "1.1.0"}
    assert (await post(fleet, "rollbacks", second)).status == 201
    assert await outcome() == ("1.0.0", "rollback", 0)
    for _ in range(3):
        await check_in(fleet)
        await fleet.report({"version": "1.0.0", "status": "failed"}, {"version": "1.2.0"})
    assert await outcome() == (None, "no_previous", 1)
    devices = (await fleet.get(f"{P}/rollouts/{rollback}/devices")).json["items"]
    assert [(each["state"], each["reason"]) for each in devices] == [("exhausted", "no_previous")]
    explained = (await fleet.get(f"{D}/explain")).json["rules"][-1]
    assert explained["says"].startswith("3 of 3 attempts at 1.0.0 failed, and there is no")
    await post(fleet, "devices/d1/retry", {"version": "1.0.0"})
    # A dry run knows no fixed offer, and the device failed on the version.
    assert (await check_in(fleet)).json["version"] == "1.0.0"
    assert (await fleet.get(f"{P}/rollouts/{rollback}")).json["devices"]["no_previous"] == 0


@pytest.mark.parametrize("lost", ["withdrawn", "exhausted"])
async def test_a_device_whose_fallback_is_lost_is_counted(fleet: Site, lost: str) -> None:
    await post(fleet, "devices", {"device": "x", "model": "m"})
    path = f"{P}/devices/x"
    await fleet.report({"version": "1.2.0"}, caller="gateway", path=path)
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns", "fallback": "1.1.0"}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]

    async def counted() -> int:
        shown = (await fleet.get(f"{P}/rollouts/{rollback}")).json["devices"]
        count: int = shown["no_previous"]
        return count

    assert await counted() == 0
    for _ in range(3 if lost == "exhausted" else 1):
        assert (await fleet.get(f"{path}/update", "gateway")).json["version"] == "1.1.0"
        failed = {"version": "1.1.0", "status": "failed"}
        await fleet.report(failed, {"version": "1.2.0"}, caller="gateway", path=path)
    if lost == "withdrawn":
        await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "bad, too"})
    assert (await fleet.get(f"{path}/update", "gateway")).json["reason"] == "no_previous"
    assert await counted() == 1


async def test_a_fallback_that_failed_for_another_model_can_still_be_used(fleet: Site) -> None:
    for version in ("1.0.0", "1.1.0"):
        await post(fleet, "releases", {"model": "k", "version": version})
    await fleet.call("PATCH", D, caller="operator", json={"model": "k"})
    await post(fleet, "rollouts", {"model": "k", "version": "1.1.0"})
    for _ in range(3):
        assert (await check_in(fleet)).json["version"] == "1.1.0"
        await fleet.report({"version": "1.1.0", "status": "failed"})
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "old"})
    await fleet.report({"version": "1.2.0"})
    await fleet.call("PATCH", D, caller="operator", json={"model": "m"})
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns", "fallback": "1.1.0"}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]
    named = (await fleet.get(f"{P}/rollouts/{rollback}")).json["devices"]
    assert (named["named"], named["no_previous"]) == (1, 0)
    assert (await check_in(fleet)).json["version"] == "1.1.0"

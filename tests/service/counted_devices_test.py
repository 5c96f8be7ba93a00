"""The counters of a rollout, its list and its own pause count the same devices."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.service.site import D2, D, P, Site
from tests.service.steered import post, roll_out

DEVICES = (D, D2)


async def change(site: Site, path: str, **members: Any) -> None:
    assert (await site.call("PATCH", path, caller="operator", json=members)).status == 200


async def decommission(site: Site, path: str) -> None:
    assert (await site.call("DELETE", path, caller="operator")).status == 204


type Change = Callable[[Site, str], Awaitable[None]]
MOVES: dict[str, tuple[Change, Change]] = {
    "decommissioned": (decommission, lambda site, path: change(site, path, decommissioned=False)),
    "another model": (
        lambda site, path: change(site, path, model="other"),
        lambda site, path: change(site, path, model="m"),
    ),
    "another cohort": (
        lambda site, path: change(site, path, cohort=None),
        lambda site, path: change(site, path, cohort="beta"),
    ),
    "without the tag": (
        lambda site, path: change(site, path, tags=["y"]),
        lambda site, path: change(site, path, tags=["y", "x"]),
    ),
}
AUDIENCES = {"another cohort": {"cohort": "beta"}, "without the tag": {"tag": "x"}}


async def counters(site: Site, rollout: str) -> dict[str, int]:
    """Returns the counters, after checking them against the list."""
    found = (await site.get(f"{P}/rollouts/{rollout}")).json
    listed = (await site.get(f"{P}/rollouts/{rollout}/devices?count=true")).json
    counted: dict[str, int] = found["progress"]
    states = [each["state"] for each in listed["items"]]
    assert counted["matching"] == listed["total"] == len(states)
    for state in ("installed", "failed", "exhausted"):
        assert counted[state] == states.count(state), state
    return counted


@pytest.mark.parametrize("how", MOVES)
async def test_a_device_that_moves_away_counts_nowhere_until_it_is_back(
    fleet: Site, how: str
) -> None:
    away, back = MOVES[how]
    for path in DEVICES:
        await change(fleet, path, cohort="beta", tags=["x"])
    rollout = await roll_out(fleet, **AUDIENCES.get(how, {}))
    for path in DEVICES:
        await fleet.get(f"{path}/update", "gateway")
    await fleet.report({"version": "1.1.0", "status": "failed"}, caller="gateway", path=D)
    await fleet.report({"version": "1.1.0"}, caller="gateway", path=D2)
    both = await counters(fleet, rollout)
    assert both == {"matching": 2, "offered": 2, "installed": 1, "failed": 1, "exhausted": 0}
    await away(fleet, D)
    left = await counters(fleet, rollout)
    assert left == {"matching": 1, "offered": 1, "installed": 1, "failed": 0, "exhausted": 0}
    await away(fleet, D2)
    assert set((await counters(fleet, rollout)).values()) == {0}
    for path in DEVICES:
        await back(fleet, path)
    assert await counters(fleet, rollout) == both


@pytest.mark.parametrize("how", MOVES)
async def test_a_device_that_moved_away_pauses_nothing(fleet: Site, how: str) -> None:
    away, back = MOVES[how]
    for path in DEVICES:
        await change(fleet, path, cohort="beta", tags=["x"])
    pause_if = {"failed_percent": 60, "min_reports": 2}
    rollout = await roll_out(fleet, **AUDIENCES.get(how, {}), pause_if=pause_if)
    path = f"{P}/rollouts/{rollout}"
    for each in DEVICES:
        await fleet.get(f"{each}/update", "gateway")
    failed = {"version": "1.1.0", "status": "failed"}
    await fleet.report(failed, caller="gateway", path=D)
    await away(fleet, D)
    await fleet.report(failed, caller="gateway", path=D2)
    assert (await fleet.get(path)).json["state"] == "running"
    await back(fleet, D)
    found = (await fleet.get(path)).json
    assert (found["state"], found["state_reason"]) == ("paused", "2 of 2 outcomes failed")


async def test_an_outcome_of_a_device_that_moved_away_counts_once_it_is_back(fleet: Site) -> None:
    await change(fleet, D, cohort="field")
    pause_if = {"failed_percent": 10, "min_reports": 1}
    rollout = await roll_out(fleet, pause_if=pause_if, cohort="field")
    await fleet.get(f"{D}/update", "gateway")
    await change(fleet, D, cohort="lab")
    await fleet.report({"version": "1.1.0", "status": "failed"}, caller="gateway", path=D)
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["state"] == "running"
    await change(fleet, D, cohort="field")
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["state"] == "paused"


async def test_an_outcome_before_a_resume_does_not_count_when_its_device_is_back(
    fleet: Site,
) -> None:
    pause_if = {"failed_percent": 10, "min_reports": 1}
    rollout = await roll_out(fleet, pause_if=pause_if)
    await fleet.get(f"{D}/update", "gateway")
    await fleet.report({"version": "1.1.0", "status": "failed"}, caller="gateway", path=D)
    await change(fleet, D, model="other")
    await post(fleet, f"rollouts/{rollout}/resume")
    await change(fleet, D, model="m")
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["state"] == "running"


async def test_a_rollback_that_chooses_a_second_version_counts_a_device_once(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0"}, {"version": "1.2.0"})
    wish = {"bad_version": "1.2.0", "model": "m", "reason": "it burns"}
    rollback = (await post(fleet, "rollbacks", wish)).json["rollout"]
    for _ in range(3):
        assert (await fleet.get(f"{D}/update", "device")).json["version"] == "1.1.0"
        await fleet.report({"version": "1.1.0", "status": "failed"}, {"version": "1.2.0"})
    counted = await counters(fleet, rollback)
    assert (counted["offered"], counted["exhausted"]) == (1, 1)
    assert (await fleet.get(f"{D}/update", "device")).json["version"] == "1.0.0"
    await fleet.report({"version": "1.0.0"})
    counted = await counters(fleet, rollback)
    assert (counted["offered"], counted["installed"], counted["exhausted"]) == (1, 1, 0)

"""Tests orders and late reports over HTTP: only a report after an order, in the device's own order,
can be its outcome or its answer."""

from typing import Any

import pytest

from firmtrail.events.times import time_text
from firmtrail.projections import device_offers
from tests.service.site import D, P, Site
from tests.service.steered import post, roll_out

OLD = "2025-05-01T00:00:00Z"
BEFORE = "2026-01-01T00:00:00Z"

FAILED, INSTALLED = {"version": "1.1.0", "status": "failed"}, {"version": "1.1.0"}


async def offered(site: Site, version: str | None = "1.1.0") -> Any:
    answer = (await site.get(f"{D}/update", "device")).json
    assert answer["version"] == version, answer
    return answer


async def rollout_of(site: Site, rollout: str) -> tuple[str, dict[str, int]]:
    shown = (await site.get(f"{P}/rollouts/{rollout}")).json
    return shown["state"], shown["progress"]


async def state_in(site: Site, rollout: str) -> str:
    items = (await site.get(f"{P}/rollouts/{rollout}/devices")).json["items"]
    return next(str(each["state"]) for each in items if each["device"] == "d1")


async def outcomes(site: Site, rollout: str) -> tuple[int, int, int]:
    _, progress = await rollout_of(site, rollout)
    return progress["offered"], progress["installed"], progress["failed"]


LATE: list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "failed, by the clock",
        [{"version": "1.0.0", "occurred_at": BEFORE, "report_id": "a"}],
        [FAILED | {"occurred_at": OLD}],
    ),
    (
        "installed, by the clock",
        [{"version": "1.0.0", "occurred_at": BEFORE}],
        [INSTALLED | {"occurred_at": OLD}],
    ),
    ("failed, by seq", [{"version": "1.0.0", "seq": 100}], [FAILED | {"seq": 5}]),
    ("installed, by seq", [{"version": "1.0.0", "seq": 100}], [INSTALLED | {"seq": 99}]),
    (
        "installing, then another version",
        [{"version": "1.0.0", "occurred_at": BEFORE}],
        [
            {"version": "1.1.0", "status": "installing", "occurred_at": OLD},
            {"version": "1.0.0", "status": "running", "occurred_at": "2025-05-01T00:10:00Z"},
        ],
    ),
    (
        "a whole update of long ago",
        [{"version": "1.0.0", "occurred_at": BEFORE}],
        [
            {"version": "1.1.0", "status": "installing", "occurred_at": OLD},
            {"version": "1.1.0", "occurred_at": "2025-05-01T00:10:00Z"},
            {"version": "1.0.0", "occurred_at": "2025-05-02T00:00:00Z"},
        ],
    ),
    (
        "a whole update of long ago, within a second",
        [{"version": "1.0.0", "occurred_at": BEFORE}],
        [
            {"version": "1.1.0", "status": "installing", "occurred_at": OLD},
            {"version": "1.1.0", "occurred_at": OLD},
            {"version": "1.0.0", "occurred_at": "2025-05-02T00:00:00Z"},
        ],
    ),
    (
        "from before the first seq",
        [{"version": "1.0.0", "occurred_at": BEFORE}, {"version": "1.0.0", "seq": 7}],
        [FAILED | {"seq": 3}],
    ),
]


@pytest.mark.parametrize(("case", "before", "late"), LATE, ids=[case for case, _, _ in LATE])
async def test_a_report_from_before_an_offer_is_not_its_outcome(
    fleet: Site, case: str, before: list[dict[str, Any]], late: list[dict[str, Any]]
) -> None:
    for report in before:
        assert (await fleet.report(report)).status == 201
    rollout = await roll_out(fleet, pause_if={"failed_percent": 40, "min_reports": 1})
    await offered(fleet)
    for report in late:
        assert (await fleet.report(report)).status == 201
    state, progress = await rollout_of(fleet, rollout)
    assert (state, progress["installed"], progress["failed"]) == ("running", 0, 0), case
    assert await state_in(fleet, rollout) == "offered"
    await offered(fleet)
    explained = (await fleet.get(f"{D}/explain")).json["offers"]
    assert [(each["attempts"], each["outcome"]) for each in explained] == [(0, None)]


async def test_a_slow_clock_reports_outcomes_all_the_same(fleet: Site) -> None:
    """Reports are minutes old, so the outcomes come before the offer's recording;
    they are after its last report."""
    await post(fleet, "devices", {"device": "d3", "model": "m"})
    slow_ms = fleet.services.access.now_ms() - 10 * 60_000

    async def report(second: int, body: dict[str, Any]) -> None:
        claim = {"occurred_at": time_text(slow_ms + second * 1000)}
        sent = await fleet.report(body | claim, caller="operator", path=f"{P}/devices/d3")
        assert sent.status == 201

    await report(0, {"version": "1.0.0"})
    rollout = await roll_out(fleet)
    for second, body, expected in ((1, FAILED, (1, 0, 1)), (2, INSTALLED, (1, 1, 0))):
        await fleet.get(f"{P}/devices/d3/update", "gateway")
        await report(second, body)
        assert await outcomes(fleet, rollout) == expected
    shown = (await fleet.get(f"{P}/devices/d3")).json
    assert (shown["version"], shown["clock"]) == ("1.1.0", None)


async def test_the_first_seq_after_an_offer_is_after_it(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await offered(fleet)
    await fleet.report(INSTALLED | {"seq": 0})
    assert await outcomes(fleet, rollout) == (1, 1, 0)


async def test_a_backlog_is_no_outcome_of_a_rollback(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0", "occurred_at": BEFORE})
    await post(fleet, "releases", {"model": "m", "version": "0.9.0"})
    wanted = {"model": "m", "bad_version": "1.0.0", "to": "0.9.0", "reason": "It sticks."}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]
    await offered(fleet, "0.9.0")
    await fleet.report({"version": "0.9.5", "occurred_at": "2025-03-01T00:00:00Z"})
    await fleet.report({"version": "0.9.0", "occurred_at": "2025-04-01T00:00:00Z"})
    assert await state_in(fleet, rollback) == "offered"
    lines = (await fleet.get(f"{D}/history")).json["items"]
    assert {each["version"]: each["change"] for each in lines}["0.9.0"] == "downgrade"
    await fleet.report({"version": "0.9.0"})
    lines = (await fleet.get(f"{D}/history")).json["items"]
    assert (lines[0]["version"], lines[0]["change"]) == ("0.9.0", "rollback")


async def test_of_two_late_reports_the_first_in_order_is_the_rollback(fleet: Site) -> None:
    """Sends the later one first: the history is the same as in order."""
    await fleet.report({"version": "1.0.0", "seq": 10})
    await post(fleet, "releases", {"model": "m", "version": "0.9.0"})
    wanted = {"model": "m", "bad_version": "1.0.0", "to": "0.9.0", "reason": "It sticks."}
    await post(fleet, "rollbacks", wanted)
    await offered(fleet, "0.9.0")
    for version, seq in (("0.9.0", 14), ("1.0.0", 13), ("0.9.0", 12), ("0.9.0", 11)):
        await fleet.report({"version": version, "seq": seq})
    lines = (await fleet.get(f"{D}/history")).json["items"]
    assert [(each["version"], each["change"]) for each in lines[:3]] == [
        ("0.9.0", "revert"),
        ("1.0.0", "upgrade"),
        ("0.9.0", "rollback"),
    ]


async def test_a_report_from_before_a_question_is_no_answer(fleet: Site) -> None:
    await fleet.report({"version": "1.0.0", "occurred_at": BEFORE})
    question = (await post(fleet, "devices/d1/ask")).json["question"]
    await fleet.report({"version": "0.9.0", "occurred_at": OLD, "question": question})
    [asked] = (await fleet.get(f"{D}/asks")).json["items"]
    assert (asked["state"], asked["version"]) == ("open", None)
    answer = await fleet.report({"version": "1.0.0", "status": "running", "question": question})
    assert answer.status == 201
    [asked] = (await fleet.get(f"{D}/asks")).json["items"]
    assert (asked["state"], asked["version"]) == ("answered", "1.0.0")


async def test_an_installing_that_arrives_after_the_next_run_has_failed(fleet: Site) -> None:
    await fleet.report({"version": "1.0.0", "seq": 1})
    rollout = await roll_out(fleet)
    await offered(fleet)
    await fleet.report({"version": "1.0.0", "status": "running", "seq": 5})
    await fleet.report({"version": "1.1.0", "status": "installing", "seq": 4})
    assert await outcomes(fleet, rollout) == (1, 0, 1)


async def test_a_failure_from_before_a_retry_counts_no_attempt(fleet: Site) -> None:
    await fleet.report({"version": "1.0.0", "seq": 1})
    await roll_out(fleet)
    await offered(fleet)
    await fleet.report({"version": "1.0.0", "status": "running", "seq": 9})
    await post(fleet, "devices/d1/retry", {"version": "1.1.0"})
    await fleet.report(FAILED | {"seq": 5})
    [offer] = (await fleet.get(f"{D}/explain")).json["offers"]
    assert (offer["attempts"], offer["outcome"]) == (0, "failed")


async def test_a_bare_failure_after_each_offer_is_news(fleet: Site) -> None:
    await roll_out(fleet)
    for attempt in range(1, 4):
        await offered(fleet)
        assert (await fleet.report(FAILED)).json["duplicate"] is False
        resent = await fleet.report(FAILED)
        assert (resent.status, resent.json["duplicate"]) == (200, True)
        [offer] = (await fleet.get(f"{D}/explain")).json["offers"]
        assert offer["attempts"] == attempt
    assert (await offered(fleet, None))["reason"] == "attempts_exhausted"
    await post(fleet, "devices/d1/retry", {"version": "1.1.0"})
    assert (await fleet.report(FAILED)).status == 201
    assert (await fleet.report(FAILED)).status == 200


@pytest.mark.parametrize("checks_in", [True, False])
async def test_a_resumed_rollout_pauses_again(fleet: Site, checks_in: bool) -> None:
    rollout = await roll_out(fleet, pause_if={"failed_percent": 10, "min_reports": 1})
    await offered(fleet)
    for _ in range(3):
        assert (await fleet.report(FAILED)).status == 201
        assert (await fleet.report(FAILED)).status == 200
        assert (await rollout_of(fleet, rollout))[0] == "paused"
        await post(fleet, f"rollouts/{rollout}/resume")
        if checks_in:
            await fleet.get(f"{D}/update", "device")


async def test_the_same_version_of_another_model_is_another_release(fleet: Site) -> None:
    for version in ("1.1.0", "1.0.0"):
        await post(fleet, "releases", {"model": "k9", "version": version})
    first = await roll_out(fleet)
    for seq in range(3):
        await offered(fleet)
        await fleet.report(FAILED | {"seq": seq})
    assert (await offered(fleet, None))["reason"] == "attempts_exhausted"
    await fleet.call("PATCH", D, caller="operator", json={"model": "k9"})
    second = await roll_out(fleet, model="k9")
    await offered(fleet)
    await fleet.report(INSTALLED)
    assert await outcomes(fleet, second) == (1, 1, 0)
    offers = (await fleet.get(f"{D}/explain")).json["offers"]
    assert {each["source"]: each["outcome"] for each in offers} == {
        first: "failed",
        second: "installed",
    }
    await fleet.call("PATCH", D, caller="operator", json={"model": "m"})
    await fleet.report({"version": "1.0.0"})
    assert (await offered(fleet, None))["reason"] == "attempts_exhausted"


async def test_attempts_at_a_pinned_version_belong_to_the_model_too(fleet: Site) -> None:
    await post(fleet, "releases", {"model": "k9", "version": "1.1.0"})
    await fleet.call("PATCH", D, caller="operator", json={"pinned": "1.1.0"})
    for model, attempts in (("m", 2), ("k9", 1), ("m", 3)):
        await fleet.call("PATCH", D, caller="operator", json={"model": model})
        while attempts > await attempts_at(fleet):
            await offered(fleet)
            await fleet.report(FAILED)
    assert (await offered(fleet, None))["reason"] == "attempts_exhausted"
    await fleet.call("PATCH", D, caller="operator", json={"model": "k9"})
    await offered(fleet)


async def attempts_at(site: Site) -> int:
    """Returns the attempts of the offers that count for the device's model."""
    model = (await site.get(D)).json["model"]
    found = (await device_offers.live(site.services.db, site.log_id, ["d1"])).get("d1", {})
    return max((each.attempts for each in found.values() if each.model == model), default=0)


async def test_a_device_failed_on_a_version_as_the_model_that_it_is(fleet: Site) -> None:
    """Keeps the way back to 0.9.0 of model m, in spite of a failure at 0.9.0 of model k9."""
    await post(fleet, "releases", {"model": "m", "version": "0.9.0"})
    await fleet.report({"version": "0.9.0", "seq": 1})
    await fleet.call("PATCH", D, caller="operator", json={"model": "k9"})
    await fleet.report({"version": "0.9.0", "status": "failed", "seq": 2})
    await fleet.call("PATCH", D, caller="operator", json={"model": "m"})
    await fleet.report({"version": "1.1.0", "seq": 4})
    wanted = {"model": "m", "bad_version": "1.1.0", "to": "previous", "reason": "It sticks."}
    tried = await post(fleet, "rollbacks", wanted | {"dry_run": True})
    assert tried.json["devices"] == {"named": 1, "pinned": 0, "silent": 0, "no_previous": 0}
    await post(fleet, "rollbacks", wanted)
    await offered(fleet, "0.9.0")


async def test_attempts_of_another_model_do_not_exhaust_a_fallback(fleet: Site) -> None:
    await post(fleet, "releases", {"model": "k9", "version": "1.1.0"})
    await fleet.call("PATCH", D, caller="operator", json={"model": "k9"})
    await roll_out(fleet, model="k9")
    for seq in range(3):
        await offered(fleet)
        await fleet.report(FAILED | {"seq": seq})
    await fleet.call("PATCH", D, caller="operator", json={"model": "m"})
    await fleet.report({"version": "1.2.0", "seq": 4})
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "It sticks."})
    wanted = {"model": "m", "bad_version": "1.2.0", "fallback": "1.1.0", "reason": "It sticks."}
    tried = await post(fleet, "rollbacks", wanted | {"dry_run": True})
    assert tried.json["devices"] == {"named": 1, "pinned": 0, "silent": 0, "no_previous": 0}
    await post(fleet, "rollbacks", wanted)
    await offered(fleet)


DEFAULT = "2020-01-01T00:00:10Z"
DEFAULT_SHOWN = "2020-01-01T00:00:10.000Z"


@pytest.mark.parametrize("status", ["installed", "running"])
@pytest.mark.parametrize("at_it", ["installing", "rebooting"])
async def test_a_clock_that_starts_at_a_default_date_is_not_believed(
    fleet: Site, status: str, at_it: str
) -> None:
    rollout = await roll_out(fleet)
    await offered(fleet)
    await fleet.report({"version": "1.1.0", "status": at_it})
    await fleet.report({"version": "1.1.0", "status": status, "occurred_at": DEFAULT})
    shown = (await fleet.get(D)).json
    assert (shown["version"], shown["clock"], shown["status"]) == ("1.1.0", "behind", status)
    assert shown["since"] > BEFORE
    assert await outcomes(fleet, rollout) == (1, 1, 0)
    [line, *_] = (await fleet.get(f"{D}/history")).json["items"]
    assert (line["version"], line["change"], line["clock"]) == ("1.1.0", "upgrade", "behind")
    assert line["occurred_at"] == DEFAULT_SHOWN
    assert not line["late"]
    assert (await offered(fleet, None))["reason"] == "up_to_date"
    heartbeat = {"version": "1.1.0", "status": "running", "occurred_at": "2020-01-01T01:00:00Z"}
    await fleet.report(heartbeat)
    assert len((await fleet.get(f"{D}/history")).json["items"]) == 2


@pytest.mark.parametrize("is_cut", [False, True], ids=["default date", "cut to the second"])
async def test_an_installing_by_a_wrong_clock_counts_as_it_was_recorded(
    fleet: Site, is_cut: bool
) -> None:
    since = str((await fleet.get(D)).json["since"])
    rollout = await roll_out(fleet)
    await offered(fleet)
    at = f"{since[:19]}Z" if is_cut else "2020-01-01T00:00:40Z"  # the reboot sets the clock back
    await fleet.report({"version": "1.1.0", "status": "installing", "occurred_at": at})
    await fleet.report({"version": "1.1.0", "occurred_at": DEFAULT})
    shown = (await fleet.get(D)).json
    assert (shown["version"], shown["clock"]) == ("1.1.0", "behind")
    assert shown["since"] > BEFORE
    assert await outcomes(fleet, rollout) == (1, 1, 0)


async def test_an_old_install_is_believed_if_none_is_in_progress(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0", "occurred_at": DEFAULT})
    shown = (await fleet.get(D)).json
    assert (shown["version"], shown["clock"]) == ("1.0.0", None)

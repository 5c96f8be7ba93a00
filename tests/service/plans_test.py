"""Checks rollouts that run themselves: plans, schedules, windows, approvals, automatic ones."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firmtrail.events.times import time_ms, time_text
from tests.service.plans import (
    check_in,
    closed_window,
    events_of,
    in_seconds,
    set_clocks,
    set_up,
    shown,
    stop_clocks,
)
from tests.service.site import D, P, Site
from tests.service.steered import post, roll_out

ALL_BUT_ONE = 99.99
"""A percentage that reaches the devices of a test, unless one of them is in the last bucket."""


async def test_a_phase_begins_when_its_time_has_come_without_an_event(fleet: Site) -> None:
    began_ms = await stop_clocks(fleet)
    phases = [{"percent": 0, "after_s": 600}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    assert (await check_in(fleet))["reason"] == "not_reached"
    before = (await fleet.get(f"{P}/events", "auditor")).headers["Firmtrail-Log-Size"]
    await set_clocks(fleet, began_ms + 600_000)
    found = await shown(fleet, rollout)
    assert [each["state"] for each in found["phases"]] == ["done", "current"]
    assert found["percent"] == 100
    times_ms = [time_ms(each["began_at"]) for each in found["phases"]]
    assert times_ms[1] - times_ms[0] == 600_000
    after = (await fleet.get(f"{P}/events", "auditor")).headers["Firmtrail-Log-Size"]
    assert before == after
    assert (await check_in(fleet))["version"] == "1.1.0"


async def test_a_condition_that_is_met_is_an_event_of_the_same_commit(fleet: Site) -> None:
    when = {"installed_percent": 100, "min_reports": 1}
    phases = [{"percent": ALL_BUT_ONE, "when": when}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    assert (await check_in(fleet))["version"] == "1.1.0"
    assert [each["state"] for each in (await shown(fleet, rollout))["phases"]] == [
        "current",
        "next",
    ]
    receipt = (await fleet.report({"version": "1.1.0", "report_id": "a"})).json
    [met] = await events_of(fleet, "RolloutPhaseMet")
    assert b'"phase":0,"installed":1,"failed":0' in met
    [next_entry] = (
        await fleet.get(f"{P}/events?from={receipt['position'] + 1}", "auditor")
    ).body.splitlines()
    assert next_entry == met
    found = await shown(fleet, rollout)
    assert [each["state"] for each in found["phases"]] == ["done", "current"]
    assert found["phases"][0]["reached_at"] == found["phases"][1]["began_at"]


async def test_outcomes_that_do_not_meet_the_condition_begin_nothing(fleet: Site) -> None:
    when = {"installed_percent": 50, "min_reports": 1}
    phases = [{"percent": ALL_BUT_ONE, "when": when}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    await check_in(fleet)
    await fleet.report({"version": "1.1.0", "status": "failed", "report_id": "a"})
    assert (await shown(fleet, rollout))["phases"][0]["state"] == "current"
    await check_in(fleet)
    await fleet.report({"version": "1.1.0", "report_id": "b"})
    assert (await shown(fleet, rollout))["phases"][1]["state"] == "current"


async def test_a_person_may_skip_to_a_later_phase_only(fleet: Site) -> None:
    phases = [{"percent": 0}, {"percent": 1}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    assert (await post(fleet, f"rollouts/{rollout}/advance", {"percent": 50})).status == 409
    answer = await post(fleet, f"rollouts/{rollout}/advance", {"percent": 100})
    assert [each["state"] for each in answer.json["phases"]] == ["done", "done", "current"]
    refused = await post(fleet, f"rollouts/{rollout}/advance")
    assert (refused.status, refused.json["code"]) == (409, "no_advance")


async def test_time_does_not_count_while_the_rollout_is_paused_or_the_project_halted(
    fleet: Site,
) -> None:
    began_ms = await stop_clocks(fleet)
    phases = [{"percent": 0, "after_s": 600}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    await post(fleet, f"rollouts/{rollout}/pause")
    await set_clocks(fleet, began_ms + 700_000)
    assert (await shown(fleet, rollout))["phases"][0]["state"] == "current"
    await post(fleet, "halt")
    await post(fleet, f"rollouts/{rollout}/resume")
    await set_clocks(fleet, began_ms + 1_400_000)
    assert (await shown(fleet, rollout))["phases"][0]["state"] == "current"
    await post(fleet, "resume")
    await set_clocks(fleet, began_ms + 2_100_000)
    assert (await shown(fleet, rollout))["phases"][1]["state"] == "current"


async def test_a_scheduled_rollout_offers_nothing_before_its_start(fleet: Site) -> None:
    began_ms = await stop_clocks(fleet)
    start_at = time_text(began_ms + 600_000)
    rollout = await roll_out(fleet, start_at=start_at)
    assert (await shown(fleet, rollout))["state"] == "scheduled"
    answer = await check_in(fleet)
    assert (answer["reason"], answer["not_before"]) == ("scheduled", start_at)
    await set_clocks(fleet, began_ms + 600_000)
    assert (await shown(fleet, rollout))["state"] == "running"
    assert (await check_in(fleet))["version"] == "1.1.0"


async def test_a_scheduled_rollout_lets_an_older_one_continue(fleet: Site) -> None:
    older = await roll_out(fleet)
    await roll_out(fleet, start_at=in_seconds(3600))
    answer = await check_in(fleet)
    assert (answer["rollout"], answer["version"]) == (older, "1.1.0")


OPEN = {"cron": "* * * * *", "duration_s": 120}


async def test_outside_its_window_nothing_new_is_offered(fleet: Site) -> None:
    await roll_out(fleet, window=closed_window())
    answer = await check_in(fleet)
    assert (answer["action"], answer["reason"]) == ("none", "window")
    assert time_ms(answer["not_before"]) > time_ms(in_seconds(11 * 3600))
    explained = (await fleet.get(f"{D}/explain")).json
    assert "opens at" in explained["rules"][-1]["says"]


async def test_a_window_opens_by_the_clock_of_each_device(fleet: Site) -> None:
    now = datetime.now(UTC)
    open_in_utc = {"cron": f"{now.minute} {now.hour} * * *", "duration_s": 600}
    await roll_out(fleet, window={**open_in_utc, "timezone": "device"})
    said = {"mode": "merge", "data": {"timezone": "Asia/Kathmandu"}}
    await fleet.call("PUT", f"{D}/attributes", caller="device", json=said)
    assert (await check_in(fleet))["reason"] == "window"
    said["data"] = {"timezone": "UTC"}
    await fleet.call("PUT", f"{D}/attributes", caller="device", json=said)
    assert (await check_in(fleet))["version"] == "1.1.0"


async def test_a_list_takes_the_window_by_the_clock_of_each_device(fleet: Site) -> None:
    now = datetime.now(UTC)
    opens_in_kathmandu = now + timedelta(hours=5, minutes=45)
    cron = f"{opens_in_kathmandu.minute} {opens_in_kathmandu.hour} * * *"
    times = {"cron": cron, "duration_s": 600, "timezone": "device"}
    rollout = await roll_out(fleet, window=times)

    async def listed() -> tuple[str, str | None]:
        items = (await fleet.get(f"{P}/rollouts/{rollout}/devices")).json["items"]
        [state] = [each["state"] for each in items if D.endswith(f"/{each['device']}")]
        devices = (await fleet.get(f"{P}/devices")).json["items"]
        [target] = [each["target"] for each in devices if D.endswith(f"/{each['device']}")]
        return state, target

    assert await listed() == ("held", None)
    said = {"mode": "merge", "data": {"timezone": "Asia/Kathmandu", "site": "Bhaktapur"}}
    await fleet.call("PUT", f"{D}/attributes", caller="device", json=said)
    assert await listed() == ("pending", "1.1.0")
    assert (await check_in(fleet))["version"] == "1.1.0"


@pytest.mark.parametrize("setting", ["window", "model_windows"])
async def test_a_window_of_the_project_or_model_is_that_of_rollouts_without_one(
    fleet: Site, setting: str
) -> None:
    times = closed_window()
    changed = await set_up(fleet, **{setting: times if setting == "window" else {"m": times}})
    assert changed.json[setting] == (times if setting == "window" else {"m": times})
    rollout = await roll_out(fleet)
    assert (await check_in(fleet))["reason"] == "window"
    [waits] = (await shown(fleet, rollout))["waits_for"]
    whose = "project" if setting == "window" else "model m"
    assert waits.startswith(f"The window of the {whose} is closed, and opens at ")
    await roll_out(fleet, window=OPEN)
    assert (await check_in(fleet))["version"] == "1.1.0"


async def test_an_offer_made_inside_the_window_stays_valid(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    assert (await check_in(fleet))["rollout"] == rollout
    await set_up(fleet, window=closed_window())
    assert (await check_in(fleet))["rollout"] == rollout


async def test_a_rollback_ignores_the_window(fleet: Site) -> None:
    await set_up(fleet, window=closed_window())
    await fleet.report({"version": "1.1.0", "report_id": "a"})
    await post(fleet, "rollbacks", {"bad_version": "1.1.0", "model": "m", "reason": "bad"})
    assert (await check_in(fleet))["reason"] == "rollback"


@pytest.mark.parametrize("approvals", [0, 1])
@pytest.mark.parametrize("more", [{}, {"dry_run": True}])
async def test_a_refused_start_stays_refused_for_its_key(
    fleet: Site, approvals: int, more: dict[str, Any]
) -> None:
    await set_up(fleet, approvals=approvals)
    release = {"model": "m", "version": "9.0.0"}
    key = {"Idempotency-Key": "k"}

    async def start() -> tuple[int, str]:
        body = {**release, **more}
        answer = await fleet.call(
            "POST", f"{P}/rollouts", caller="operator", json=body, headers=key
        )
        return answer.status, answer.json.get("code")

    assert await start() == (422, "unknown_release")
    await post(fleet, "releases", release)
    assert await start() == (422, "unknown_release")


async def test_a_new_release_starts_the_rollout_that_the_settings_name(fleet: Site) -> None:
    plan = {"phases": [{"percent": 5.0, "after_s": 60, "when": None}]}
    automatic = {"plan": plan, "window": None, "pause_if": None}
    changed = await set_up(fleet, auto_rollout={"m": automatic})
    assert changed.json["auto_rollout"] == {"m": automatic}
    added = [
        (await post(fleet, "releases", {"version": version, "model": "m"})).json["rollout"]
        for version in ("3.0.0-rc.1", "3.0.0")
    ]
    items = (await fleet.get(f"{P}/rollouts")).json["items"]
    assert [each["version"] for each in items] == ["3.0.0"]
    assert added == [None, items[0]["id"]]
    [release] = [line for line in await events_of(fleet, "ReleaseAdded") if b'"3.0.0"' in line]
    [started] = await events_of(fleet, "RolloutStarted")
    assert b'"actor":"system"' in started
    assert b'"release_position":' in started
    assert release


async def test_a_rollout_is_shown_as_it_was_and_as_it_will_be(fleet: Site) -> None:
    when = {"installed_percent": 90, "min_reports": 1}
    phases = [
        {"percent": 1, "after_s": 3600, "when": when},
        {"percent": 10, "after_s": 7200},
        {"percent": 100},
    ]
    rollout = await roll_out(fleet, plan={"phases": phases})
    began = (await shown(fleet, rollout))["phases"][0]["began_at"]
    later = await shown(fleet, rollout, f"?at={in_seconds(3 * 3600 + 60)}")
    assert later["percent"] == 100
    times = [time_ms(each["began_at"]) - time_ms(began) for each in later["phases"]]
    assert times == [0, 3_600_000, 10_800_000]
    soon = await shown(fleet, rollout, f"?at={in_seconds(1800)}")
    assert (soon["percent"], soon["phases"][0]["state"]) == (1, "current")
    await post(fleet, f"rollouts/{rollout}/pause")
    past = await shown(fleet, rollout, f"?at={began}")
    assert past["state"] == "running"
    early = await fleet.get(f"{P}/rollouts/{rollout}?at=2020-01-01T00:00:00Z")
    assert early.status == 404


async def test_the_past_of_a_rollout_does_not_know_that_its_release_was_withdrawn_later(
    fleet: Site,
) -> None:
    rollout = await roll_out(fleet)
    began = (await shown(fleet, rollout))["started_at"]
    await asyncio.sleep(0.01)
    await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "it bricks"})
    past = await shown(fleet, rollout, f"?at={began}")
    assert (past["state"], past["state_since"]) == ("running", began)
    assert "phases" not in past, "it has no plan"
    for query in ("", f"?at={in_seconds(1)}"):
        later = await shown(fleet, rollout, query)
        assert later["state"] == "withdrawn"
        assert later["state_since"] > began


async def test_a_dry_run_forecasts_its_phases(fleet: Site) -> None:
    when = {"installed_percent": 90, "min_reports": 1}
    phases = [{"percent": 99.99, "after_s": 60, "when": when}, {"percent": 100}]
    body = {"model": "m", "version": "1.1.0", "plan": {"phases": phases}, "dry_run": True}
    found = (await post(fleet, "rollouts", body)).json
    assert found["id"] is None
    first, last = found["phases"]
    assert time_ms(first["earliest_end"]) - time_ms(first["began_at"]) == 60_000
    assert first["earliest_end"] == last["began_at"]
    assert last["devices"] == found["progress"]["matching"]
    assert [each["state"] for each in found["phases"]] == ["next", "next"]
    assert "warnings" not in found


async def test_a_rollout_that_is_scheduled_shows_the_forecast_of_its_dry_run(
    fleet: Site,
) -> None:
    phases = [{"percent": 50, "after_s": 60}, {"percent": 75}, {"percent": 100}]
    body = {"model": "m", "version": "1.1.0", "plan": {"phases": phases}}
    body |= {"start_at": in_seconds(600)}
    dry = (await post(fleet, "rollouts", {**body, "dry_run": True})).json["phases"]
    rollout = (await post(fleet, "rollouts", body)).json["id"]
    found = (await shown(fleet, rollout))["phases"]
    expected = [(each["begins_at"], each["ends_at"], each["devices"]) for each in dry]
    assert [(each["begins_at"], each["ends_at"], each["devices"]) for each in found] == expected
    assert [begin is not None for begin, _, _ in expected] == [True, True, False]
    assert [each["began_at"] for each in found] == [None] * 3, "none has begun"
    assert time_ms(expected[1][0]) == time_ms(expected[0][1]) == time_ms(expected[0][0]) + 60_000
    await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "bad"})
    assert all("begins_at" not in each for each in (await shown(fleet, rollout))["phases"])


async def test_a_start_that_is_no_time_is_answered_with_an_example(fleet: Site) -> None:
    body = {"model": "m", "version": "1.1.0", "start_at": "tomorrow"}
    [fault] = (await post(fleet, "rollouts", body)).json["errors"]
    assert fault == {
        "pointer": "/start_at",
        "reason": "expected a time such as 2026-03-15T02:00:00Z",
    }


async def test_a_dry_run_warns_of_whatever_keeps_it_from_offering_something(fleet: Site) -> None:
    body = {"model": "m", "version": "1.1.0", "dry_run": True}
    assert "warnings" not in (await post(fleet, "rollouts", body)).json
    await set_up(fleet, approvals=2)
    closed = closed_window()
    late = {"start_at": "2026-01-01T00:00:00Z", "window": closed, "cohort": "nobody"}
    found = (await post(fleet, "rollouts", {**body, **late})).json["warnings"]
    for said in (
        "No device matches it now",
        "It waits until 2 other members have approved it.",
        "Its start, 2026-01-01T00:00:00.000Z, is in the past",
        "Its window is closed when it starts: nothing is offered before ",
    ):
        assert any(each.startswith(said) for each in found), found
    await set_up(fleet, approvals=0, model_windows={"m": closed})
    [warning] = (await post(fleet, "rollouts", body)).json["warnings"]
    assert warning.startswith("The window of the model m is closed")


FAULTY = [
    ({"plan": {"phases": []}}, "/plan/phases"),
    ({"plan": {"phases": [{"percent": 5}, {"percent": 5}]}}, "/plan/phases"),
    ({"plan": {"phases": [{"percent": 5.001}]}}, "/plan/phases/0/percent"),
    ({"plan": {"phases": [{"percent": n} for n in range(21)]}}, "/plan/phases"),
    ({"plan": {"phases": [{"percent": 5, "when": {"min_reports": 1}}]}}, "/plan/phases/0/when"),
    ({"plan": {"phases": [{"percent": 5}]}, "percent": 5}, "/percent"),
    ({"window": {"cron": "nonsense", "duration_s": 60}}, "/window/cron"),
    ({"window": {"cron": "* * * * *", "duration_s": 1}}, "/window/duration_s"),
    ({"window": {**OPEN, "timezone": "Europe/Atlantis"}}, "/window/timezone"),
    ({"start_at": "2026-01-01"}, "/start_at"),
    ({"start_at": "9999-01-01T00:00:00Z"}, "/start_at"),
]


@pytest.mark.one_back_end
@pytest.mark.parametrize(("members", "pointer"), FAULTY)
async def test_a_faulty_plan_is_refused_by_its_member(
    fleet: Site, members: Any, pointer: str
) -> None:
    body = {"model": "m", "version": "1.1.0", **members}
    answer = await post(fleet, "rollouts", body)
    assert answer.status == 422
    assert any(each["pointer"].startswith(pointer) for each in answer.json["errors"])

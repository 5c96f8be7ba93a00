"""Checks the rollouts that the setting auto_rollout starts with each new release."""

from typing import Any

import msgspec

from tests.service.plans import check_in, closed_window, events_of, set_up
from tests.service.site import P, Site
from tests.service.steered import post

PLAN = {"phases": [{"percent": 5.0, "after_s": 60, "when": None}, {"percent": 100.0}]}
PAUSE_IF = {"failed_percent": 5, "min_reports": 20}


async def added(site: Site, version: str, model: str = "m") -> Any:
    return (await post(site, "releases", {"version": version, "model": model})).json


async def test_a_release_starts_its_rollout_with_the_plan_window_and_pause_of_its_model(
    fleet: Site,
) -> None:
    window = closed_window()
    mine = {"plan": PLAN, "window": window, "pause_if": PAUSE_IF}
    await set_up(fleet, auto_rollout={"m": mine, "other": {"pause_if": PAUSE_IF}})
    name = (await added(fleet, "3.0.0"))["rollout"]
    found = (await fleet.get(f"{P}/rollouts/{name}")).json
    assert (found["model"], found["version"], found["state"]) == ("m", "3.0.0", "running")
    assert [(each["percent"], each["after_s"]) for each in found["phases"]] == [
        (5, 60),
        (100, None),
    ]
    assert (found["window"], found["pause_if"], found["cohort"]) == (window, PAUSE_IF, None)
    assert (await check_in(fleet))["reason"] in {"window", "not_reached"}
    other = (await added(fleet, "3.0.0", "other"))["rollout"]
    found = (await fleet.get(f"{P}/rollouts/{other}")).json
    assert (found["percent"], found["pause_if"], found["window"]) == (100, PAUSE_IF, None)
    assert "phases" not in found
    assert (await added(fleet, "3.0.0", "third"))["rollout"] is None


async def test_the_start_is_an_event_of_the_system_right_after_that_of_the_release(
    fleet: Site,
) -> None:
    await set_up(fleet, auto_rollout={"m": {"plan": PLAN}})
    name = (await added(fleet, "3.0.0"))["rollout"]
    lines = (await fleet.get(f"{P}/events?positions=true", "auditor")).body.splitlines()
    entries = [line.partition(b"\t") for line in lines]
    [at] = [n for n, (_, _, entry) in enumerate(entries) if b'"subject":"release/m/3.0.0"' in entry]
    release, started = (msgspec.json.decode(entry) for _, _, entry in entries[at : at + 2])
    assert release["type"] == "firmtrail.ReleaseAdded.v1"
    assert (started["type"], started["subject"]) == (
        *("firmtrail.RolloutStarted.v1", f"rollout/{name}"),
    )
    assert (started["actor"], release["actor"].partition("/")[0]) == ("system", "token")
    assert started["data"]["release_position"] == int(entries[at][0])
    assert started["time"] == release["time"]


async def test_neither_a_pre_release_nor_a_setting_that_was_taken_back_starts_one(
    fleet: Site,
) -> None:
    await set_up(fleet, auto_rollout={"m": {"plan": PLAN}})
    assert (await added(fleet, "3.0.0-rc.1"))["rollout"] is None
    await set_up(fleet, auto_rollout={})
    assert (await added(fleet, "3.0.0"))["rollout"] is None
    assert await events_of(fleet, "RolloutStarted") == []

"""Checks whose window counts: a rollout's own, or that of its cohort, model or project; and that a
rollback waits for none but its own."""

from typing import Any

import pytest

from firmtrail.events.times import time_ms
from tests.service.forms import read_page, text_of
from tests.service.plans import check_in, closed_window, in_seconds, set_up, shown
from tests.service.site import D, P, Site
from tests.service.steered import post, roll_out

OPEN = {"cron": "* * * * *", "duration_s": 120, "timezone": "UTC"}
BACK = {"bad_version": "1.1.0", "model": "m", "reason": "bad"}


async def closed(site: Site) -> dict[str, Any]:
    """Puts the device into a cohort; returns a window that is closed for hours."""
    await site.call("PATCH", D, caller="operator", json={"cohort": "lab"})
    return closed_window()


@pytest.mark.parametrize("cohort", [None, "lab"])
async def test_the_window_of_a_cohort_is_that_of_its_devices(
    fleet: Site, cohort: str | None
) -> None:
    times = await closed(fleet)
    await set_up(fleet, cohort_windows={"lab": times}, model_windows={"m": OPEN}, window=OPEN)
    more = {"cohort": cohort} if cohort else {}
    rollout = await roll_out(fleet, **more)
    answer = await check_in(fleet)
    assert (answer["reason"], answer["version"]) == ("window", None)
    assert time_ms(answer["not_before"]) > time_ms(in_seconds(11 * 3600))
    assert "Its window opens at <time" in await read_page(fleet, "/devices/d1")
    await fleet.report({"version": "1.1.0"})
    explained = (await fleet.get(f"{D}/explain")).json
    assert (explained["reason"], (await check_in(fleet))["reason"]) == ("up_to_date",) * 2
    assert "window" not in text_of(await read_page(fleet, "/devices/d1"))
    await fleet.report({"version": "1.0.0"})
    await set_up(fleet, cohort_windows={"other": times})
    assert (await check_in(fleet))["rollout"] == rollout


async def test_an_open_window_of_a_cohort_counts_more_than_a_closed_one_of_its_model(
    fleet: Site,
) -> None:
    times = await closed(fleet)
    await set_up(fleet, cohort_windows={"lab": OPEN}, model_windows={"m": times}, window=times)
    await roll_out(fleet)
    assert (await check_in(fleet))["version"] == "1.1.0"


async def test_a_rollback_with_a_window_of_its_own_waits_for_it(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0", "report_id": "a"})
    times = closed_window()
    tried = (await post(fleet, "rollbacks", {**BACK, "window": times, "dry_run": True})).json
    [warning] = tried["warnings"]
    assert warning.startswith("Its window is closed when it starts: nothing is offered before ")
    rollback = (await post(fleet, "rollbacks", {**BACK, "window": times})).json["rollout"]
    answer = await check_in(fleet)
    assert (answer["action"], answer["reason"], answer["rollout"]) == ("none", "window", rollback)
    assert time_ms(answer["not_before"]) > time_ms(in_seconds(11 * 3600))
    found = await shown(fleet, rollback)
    assert found["window"] == times
    assert found["waits_for"][0].startswith("Its window is closed, and opens at ")
    [listed] = (await fleet.get(f"{P}/rollouts")).json["items"]
    assert found["opens_at"] == listed["opens_at"] == answer["not_before"]
    await post(fleet, f"rollouts/{rollback}/pause")
    assert "opens_at" not in (await fleet.get(f"{P}/rollouts")).json["items"][0]
    await post(fleet, f"rollouts/{rollback}/resume")
    [state] = (await fleet.get(f"{P}/rollouts/{rollback}/devices")).json["items"]
    assert (state["device"], state["state"], state["reason"]) == ("d1", "held", "window")
    explained = (await fleet.get(f"{D}/explain")).json["rules"][-1]
    assert explained["says"].startswith(f"the window of recall {rollback} opens at ")


async def test_a_rollback_offers_inside_its_window_whatever_the_settings_say(fleet: Site) -> None:
    await set_up(fleet, window=closed_window())
    await fleet.report({"version": "1.1.0", "report_id": "a"})
    await post(fleet, "rollbacks", {**BACK, "window": OPEN})
    assert (await check_in(fleet))["version"] == "1.0.0"


async def test_a_faulty_window_of_a_rollback_is_refused_by_its_member(fleet: Site) -> None:
    answer = await post(fleet, "rollbacks", {**BACK, "window": {**OPEN, "cron": "61 * * * *"}})
    assert answer.status == 422
    assert answer.json["errors"][0]["pointer"] == "/window/cron"


async def test_a_dry_run_names_the_cohorts_that_do_not_wait_for_the_window(fleet: Site) -> None:
    times = await closed(fleet)
    await set_up(fleet, cohort_windows={"lab": OPEN, "dock": times}, window=times)
    body = {"model": "m", "version": "1.1.0", "dry_run": True}
    [warning] = (await post(fleet, "rollouts", body)).json["warnings"]
    assert warning.startswith("The window of the project is closed when it starts")
    assert warning.endswith(", except to cohorts with windows of their own: dock, lab.")
    *_, alone = (await post(fleet, "rollouts", {**body, "cohort": "dock"})).json["warnings"]
    assert "except" not in alone
    for clear in ({}, {"window": None}):
        await set_up(fleet, **clear)
        tried = await read_page(fleet, "/rollouts/start?model=m&version=1.1.0&percent=50")
        assert "These cohorts have windows of their own: dock, lab." in text_of(tried)
    await roll_out(fleet)
    assert (await check_in(fleet))["version"] == "1.1.0"

"""Checks what a device's explanation says of the phase of a plan that reaches it."""

from typing import Any

from firmtrail.events.times import time_ms
from tests.service.forms import read_page
from tests.service.plans import check_in, in_seconds, shown
from tests.service.site import D, Site
from tests.service.steered import post, roll_out


async def explained(site: Site) -> Any:
    answer = await site.get(f"{D}/explain", "viewer")
    assert answer.status == 200, answer.body
    return answer.json["phase"]


async def test_an_explanation_names_the_phase_that_reaches_the_device_and_when(
    fleet: Site,
) -> None:
    phases = [{"percent": 0, "after_s": 3600}, {"percent": 100}]
    assert await explained(fleet) is None, "there is no plan"
    rollout = await roll_out(fleet, plan={"phases": phases})
    assert (await check_in(fleet))["reason"] == "not_reached"
    [_, last] = (await shown(fleet, rollout))["phases"]
    found = await explained(fleet)
    assert found.pop("says") == (
        f"Phase 2 of 2 (100 %) of rollout {rollout} will reach it from {last['begins_at']} on, if "
        "nobody intervenes."
    )
    assert found == {
        "rollout": rollout,
        "phase": 2,
        "phases": 2,
        "percent": 100,
        "state": "next",
        "begins_at": last["begins_at"],
    }
    await post(fleet, f"rollouts/{rollout}/advance")
    found = await explained(fleet)
    [_, last] = (await shown(fleet, rollout))["phases"]
    assert (found["state"], found["begins_at"]) == ("current", last["began_at"])
    assert (await check_in(fleet))["version"] == "1.1.0"
    await fleet.report({"version": "1.1.0"})
    assert await explained(fleet) is None, "it is there"


async def test_an_explanation_has_no_time_where_more_than_time_decides(fleet: Site) -> None:
    when = {"installed_percent": 95, "min_reports": 20}
    phases = [{"percent": 0, "when": when}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    found = await explained(fleet)
    assert (found["phase"], found["begins_at"]) == (2, None)
    assert found["says"].endswith(". Phase 1 waits for 20 outcomes with 95 % installs.")
    await post(fleet, f"rollouts/{rollout}/pause")
    assert (await explained(fleet))["says"].endswith(" will reach it. The rollout is paused.")


async def test_a_phase_of_a_scheduled_rollout_reaches_a_device_from_its_start_on(
    fleet: Site,
) -> None:
    start_at = in_seconds(3600)
    phases = [{"percent": 0, "after_s": 60}, {"percent": 100}]
    await roll_out(fleet, plan={"phases": phases}, start_at=start_at)
    found = await explained(fleet)
    assert time_ms(found["begins_at"]) == time_ms(start_at) + 60_000


async def test_the_page_of_a_device_says_which_phase_reaches_it(fleet: Site) -> None:
    path = "/devices/d1"
    assert "See its plan" not in await read_page(fleet, path)
    phases = [{"percent": 0, "after_s": 3600}, {"percent": 100}]
    await roll_out(fleet, plan={"phases": phases})
    says = (await explained(fleet))["says"]
    page = await read_page(fleet, path)
    assert says in page and "See its plan" in page
    assert "See its plan" not in await read_page(fleet, f"{path}?as_of=@5")

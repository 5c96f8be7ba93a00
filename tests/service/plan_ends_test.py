"""Checks what is shown of phases that may never end, and of rollouts that are over."""

import re
from typing import Any

import pytest

from firmtrail.events.times import time_ms, time_text
from tests.service.forms import read_page
from tests.service.plans import check_in, in_seconds, set_clocks, shown, stop_clocks
from tests.service.site import P, Site
from tests.service.steered import post, roll_out

HOUR_MS = 3_600_000
FEW = "Phase 1 waits for 50 reports, but reaches only about 2 more devices: it may never end."


def plan(installed_percent: int, min_reports: int, percent: float = 99.99) -> dict[str, Any]:
    when = {"installed_percent": installed_percent, "min_reports": min_reports}
    return {"phases": [{"percent": percent, "after_s": 60, "when": when}, {"percent": 100}]}


def expected(phases: list[Any]) -> list[tuple[Any, Any]]:
    return [(each["earliest_end"], each["ends_at"]) for each in phases]


async def test_a_dry_run_expects_no_end_of_a_phase_that_waits_for_too_many(fleet: Site) -> None:
    body = {"model": "m", "version": "1.1.0", "plan": plan(90, 50), "dry_run": True}
    found = (await post(fleet, "rollouts", body)).json
    assert found["warnings"] == [FEW]
    assert expected(found["phases"]) == [(None, None), (None, None)]
    assert found["phases"][1]["begins_at"] is None


async def test_devices_that_run_the_version_already_give_no_reports(fleet: Site) -> None:
    body = {"model": "m", "version": "1.1.0", "plan": plan(90, 2)}
    assert "warnings" not in (await post(fleet, "rollouts", body | {"dry_run": True})).json
    await fleet.report({"version": "1.2.0"})
    found = (await post(fleet, "rollouts", body | {"dry_run": True})).json
    few = "Phase 1 waits for 2 reports, but reaches only about 1 more device: it may never end."
    assert found["warnings"] == [few]
    tried = "percent=99.99&after=1+min&installed=90&reports=2&percent_2=100"
    html = await read_page(fleet, f"/rollouts/start?model=m&version=1.1.0&{tried}")
    assert few in html
    rollout = await roll_out(fleet, plan=body["plan"])
    assert (await shown(fleet, rollout))["waits_for"][-1] == few
    assert few in await read_page(fleet, f"/rollouts/{rollout}")


async def test_a_rollout_expects_no_end_of_a_phase_that_waits_for_too_many(fleet: Site) -> None:
    rollout = await roll_out(fleet, plan=plan(90, 50))
    found = await shown(fleet, rollout)
    assert expected(found["phases"]) == [(None, None), (None, None)]
    says, why = found["waits_for"]
    assert says.endswith(", waits for 50 outcomes with 90 % installs.")
    assert why == FEW
    later = await shown(fleet, rollout, f"?at={in_seconds(86_400)}")
    assert [each["state"] for each in later["phases"]] == ["current", "next"]
    html = await read_page(fleet, f"/rollouts/{rollout}")
    assert FEW in html
    assert "begins when a person says so" in html
    assert "expected" not in html


async def test_a_share_that_can_not_be_reached_any_more_is_said(fleet: Site) -> None:
    rollout = await roll_out(fleet, plan=plan(100, 1))
    assert expected((await shown(fleet, rollout))["phases"])[0][1] is not None
    await check_in(fleet)
    await fleet.report({"version": "1.1.0", "status": "failed", "report_id": "a"})
    found = await shown(fleet, rollout)
    assert found["waits_for"][1] == (
        "Phase 1 waits for 100 % installs, but 1 of 1 outcomes failed, and it reaches only about 2 "
        "more devices: it may never end."
    )
    assert expected(found["phases"]) == [(None, None), (None, None)]


async def test_a_dry_run_warns_of_a_phase_that_may_reach_too_few_by_chance(fleet: Site) -> None:
    body = {"model": "m", "version": "1.1.0", "plan": plan(90, 1, 50), "dry_run": True}
    doubt = (
        "Phase 1 waits for 1 report, but reaches about 1 new device: by chance they may be too "
        "few, and it may never end."
    )
    assert (await post(fleet, "rollouts", body)).json["warnings"] == [doubt]
    query = "model=m&version=1.1.0&percent=50&after=1+min&installed=90&reports=1&percent_2=100"
    assert doubt in await read_page(fleet, f"/rollouts/start?{query}")


def future_times(html: str, now_ms: int) -> list[str]:
    """Returns the times in a page that are later than this one."""
    found = re.findall(r'<time datetime="([^"]+)"', html)
    assert found
    return [each for each in found if time_ms(each) > now_ms]


@pytest.mark.parametrize("ends", ["aborts", "withdraws"])
async def test_a_rollout_that_is_over_says_when_it_ended_and_expects_nothing(
    fleet: Site, ends: str
) -> None:
    began_ms = await stop_clocks(fleet)
    phases = [{"percent": 1, "after_s": 60}, {"percent": 50, "after_s": 3600}, {"percent": 100}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    assert future_times(await read_page(fleet, f"/rollouts/{rollout}"), began_ms)
    ended_ms = began_ms + 90_000
    await set_clocks(fleet, ended_ms)
    if ends == "aborts":
        await post(fleet, f"rollouts/{rollout}/abort")
    else:
        await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "it bricks"})
    for later_ms in (ended_ms, ended_ms + 3 * HOUR_MS):
        await set_clocks(fleet, later_ms)
        html = await read_page(fleet, f"/rollouts/{rollout}")
        assert future_times(html, ended_ms) == []
        assert "expected" not in html
        for says in ("· ended <time", ">stopped<", ">not begun<"):
            assert says in html
        assert html.count(f'ended <time datetime="{time_text(ended_ms)}"') == 2
        for query in ("", f"?at={time_text(later_ms + HOUR_MS)}"):
            found = await shown(fleet, rollout, query)
            assert [each["state"] for each in found["phases"]] == ["done", "current", "next"]
            assert found["percent"] == 50
            assert [each["earliest_end"] for each in found["phases"]] == [None] * 3
            assert not any("begins_at" in each for each in found["phases"])


async def test_a_rollout_that_was_aborted_before_its_start_shows_no_begin(fleet: Site) -> None:
    now_ms = await stop_clocks(fleet)
    start = {"start_at": time_text(now_ms + HOUR_MS)}
    rollout = await roll_out(fleet, plan={"phases": [{"percent": 100}]}, **start)
    await post(fleet, f"rollouts/{rollout}/abort")
    await set_clocks(fleet, now_ms + 2 * HOUR_MS)
    html = await read_page(fleet, f"/rollouts/{rollout}")
    assert "Was to start" in html
    assert ">not begun<" in html
    [phase] = (await shown(fleet, rollout))["phases"]
    assert (phase["state"], phase["began_at"]) == ("next", None)


async def test_a_recall_outside_its_window_says_when_that_opens(fleet: Site) -> None:
    now_ms = await stop_clocks(fleet)
    opens_ms = (now_ms // HOUR_MS + 6) * HOUR_MS
    hour = time_text(opens_ms)[11:13]
    await fleet.report({"version": "1.1.0", "report_id": "b"})
    window = {"cron": f"0 {hour} * * *", "duration_s": 3600, "timezone": "UTC"}
    wanted = {"bad_version": "1.1.0", "model": "m", "reason": "it bricks", "window": window}
    recall = (await post(fleet, "rollbacks", wanted)).json["rollout"]
    says = f'waits for its window, opens <time datetime="{time_text(opens_ms)}"'
    for page in ("", "/rollouts", f"/rollouts/{recall}"):
        assert says in await read_page(fleet, page), page
    opening = time_text(opens_ms)[:16].replace("T", " ")
    [note] = (await fleet.get(f"{P}/attention")).json["items"]
    assert note["says"].endswith(
        f"A recall of it waits for its window, which opens at {opening} UTC."
    )
    html = await read_page(fleet, f"/rollouts/{recall}")
    assert "<b>1</b><span>still run 1.1.0</span>" in html
    assert "abort this recall, and recall the version again without a window" in html
    assert f'/rollouts/{recall}">Look at the recall' in await read_page(fleet, "/releases/m/1.1.0")
    await set_clocks(fleet, opens_ms)
    assert "waits for its window" not in await read_page(fleet, f"/rollouts/{recall}")

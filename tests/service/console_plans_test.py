"""Starts rollouts with plans through their form, and changes plans."""

import re
from urllib.parse import urlencode

import pytest

from tests.service.forms import CONSOLE, FormFields, hidden_fields, read_page, send, text_of
from tests.service.plans import in_seconds, set_up, shown
from tests.service.site import P, Site
from tests.service.steered import post, roll_out

START = {"model": "m", "version": "1.1.0", "percent": "50"}
PHASES = {
    **START,
    "after": "1 d 6 h",
    "installed": "95",
    "reports": "1",
    "percent_3": "100",
}
WINDOW = {"window_cron": "0 2 * * *", "window_for": "4 h", "window_timezone": "Europe/Berlin"}


async def tried(site: Site, fields: dict[str, str]) -> str:
    return await read_page(site, f"/rollouts/start?{urlencode(fields)}")


async def start(site: Site, html: str) -> str:
    answer = await send(site, "/rollouts/start", hidden_fields(html))
    assert answer.status == 303, answer.body
    return str(answer.headers["Location"]).rpartition("/")[2]


async def test_the_rows_of_a_form_become_the_phases_of_a_plan(fleet: Site) -> None:
    html = await tried(fleet, PHASES)
    assert "Forecast, if nothing fails" in html
    found = await shown(fleet, await start(fleet, html))
    assert [
        (each["percent"], each["after_s"], each["when"], each["state"]) for each in found["phases"]
    ] == [
        (50, 108_000, {"installed_percent": 95, "min_reports": 1}, "current"),
        (100, None, None, "next"),
    ]


async def test_the_forecast_of_the_form_is_that_of_the_dry_run(fleet: Site) -> None:
    html = await tried(fleet, {**START, "after": "1 hour 30 minutes", "percent_2": "100"})
    phases = [{"percent": 50, "after_s": 5400}, {"percent": 100}]
    body = {"model": "m", "version": "1.1.0", "plan": {"phases": phases}, "dry_run": True}
    dry = (await post(fleet, "rollouts", body)).json
    times = re.findall(r'expected <time datetime="([^"]+)"', html)
    assert [each[:16] for each in times] == [each["began_at"][:16] for each in dry["phases"]]
    assert re.findall(r"≈ (\d+) devices?", html) == [str(each["devices"]) for each in dry["phases"]]


async def test_a_form_warns_of_a_phase_that_may_never_end(fleet: Site) -> None:
    html = await tried(fleet, {**PHASES, "reports": "50"})
    assert "Phase 1 waits for 50 reports" in text_of(html)


async def test_one_row_without_an_end_is_a_rollout_without_a_plan(fleet: Site) -> None:
    found = await shown(fleet, await start(fleet, await tried(fleet, START)))
    assert "phases" not in found
    assert found["percent"] == 50


async def test_everything_else_of_the_form_arrives(fleet: Site) -> None:
    later = in_seconds(3600)[:16]
    fields = {
        "start_at": later,
        "failed_percent": "5",
        "failed_reports": "20",
        "silent_after": "2d",
    }
    html = await tried(fleet, {**START, **WINDOW, **fields, "tag": "t", "silent_after": "2d"})
    found = await shown(fleet, await start(fleet, html))
    assert found["window"] == {
        "cron": "0 2 * * *",
        "duration_s": 14_400,
        "timezone": "Europe/Berlin",
    }
    assert found["pause_if"] == {"failed_percent": 5, "min_reports": 20}
    assert found["silent_after_s"] == 172_800
    assert found["start_at"] == f"{later}:00.000Z"
    assert (found["tag"], found["state"]) == ("t", "scheduled")


async def test_the_next_openings_of_a_window_are_drawn_before_the_start(fleet: Site) -> None:
    html = await tried(fleet, {**START, **WINDOW})
    picture = html.partition('<svg class="chart openings"')[2].partition("</svg>")[0]
    assert picture.count('<rect class="age-0"') in {6, 7, 8}
    assert html.count("for 4\N{NO-BREAK SPACE}h") == 5
    assert ">Its window<" in html


async def test_a_form_says_that_the_window_is_closed_when_the_rollout_starts(fleet: Site) -> None:
    html = await tried(fleet, {**START, **WINDOW, "window_cron": "0 0 29 2 *"})
    assert "Its window is closed when it starts: nothing is offered before" in text_of(html)


async def test_a_rollout_without_a_window_shows_whose_window_its_devices_go_by(
    fleet: Site,
) -> None:
    night = {"cron": "0 3 * * *", "duration_s": 60}
    assert "The window of" not in await tried(fleet, START)
    await set_up(fleet, window=night)
    assert ">The window of the project<" in await tried(fleet, START)
    await set_up(fleet, model_windows={"m": night})
    assert ">The window of the model m<" in await tried(fleet, START)
    await set_up(fleet, cohort_windows={"lab": night})
    assert ">The window of the cohort lab<" in await tried(fleet, {**START, "cohort": "lab"})
    html = await tried(fleet, START)
    assert ">The window of the model m<" in html
    text = text_of(await read_page(fleet, f"/rollouts/{await start(fleet, html)}"))
    assert "The window of the model m opens at 0 3 * * * for 1 min, UTC; next" in text
    assert " 03:00 in UTC" in text
    assert "These cohorts have windows of their own: lab." in text


async def test_a_rollout_that_needs_approval_says_so_before_it_starts(fleet: Site) -> None:
    await set_up(fleet, approvals=1)
    html = await tried(fleet, PHASES)
    assert "waits until 1 member other than you approves it" in text_of(html)
    assert html.count("expected <time") == html.count("</time> UTC") == 2
    rollout = await start(fleet, html)
    assert (await shown(fleet, rollout))["state"] == "waiting"
    assert "waiting" in text_of(await read_page(fleet, f"/rollouts/{rollout}"))
    await post(fleet, f"rollouts/{rollout}/reject", {"reason": "not today"})
    assert "not today" in text_of(await read_page(fleet, f"/rollouts/{rollout}"))


FAULTY = [
    ({"percent": "101"}, "percent", "a percentage from 0 to 100"),
    ({"percent_2": "50"}, "percent", "reach more devices"),
    ({"after": "tomorrow", "percent_2": "60"}, "after", "is not a length of time"),
    ({"after": "400 d", "percent_2": "60"}, "after", "expected"),
    ({"after_2": "1 d"}, "percent_2", "is missing"),
    ({"installed": "x", "percent_2": "60"}, "installed", "is not a whole number"),
    ({"installed": "95", "percent_2": "60"}, "reports", "is missing"),
    ({"window_cron": "never", "window_for": "1 h"}, "window_cron", "needs five fields"),
    ({"window_cron": "0 2 * * *"}, "window_for", "is missing"),
    ({**WINDOW, "window_timezone": "Europe/Atlantis"}, "window_timezone", "is not a time zone"),
    ({"start_at": "tomorrow"}, "start_at", ""),
    ({"start_at": "9990-01-01T00:00"}, "start_at", "more than 5 years ahead"),
    ({"silent_after": "1 s"}, "silent_after", "expected"),
    ({"version": "9.9.9"}, "version", "has no release 9.9.9"),
    ({"version": "not-a-version"}, "version", "expected"),
]


@pytest.mark.one_back_end
@pytest.mark.parametrize(("fields", "name", "reason"), FAULTY)
async def test_what_is_wrong_stands_at_its_field_and_nothing_written_is_lost(
    fleet: Site, fields: dict[str, str], name: str, reason: str
) -> None:
    written = {**START, **fields}
    for answer in (
        await fleet.get(f"{CONSOLE}/rollouts/start?{urlencode(written)}", "operator"),
        await send(fleet, "/rollouts/start", dict(written)),
    ):
        html = answer.body.decode()
        assert answer.status in {422, 404}
        assert reason in text_of(html)
        field = re.search(rf'<input[^>]*name="{name}"[^>]*>', html)
        assert field is not None and 'aria-invalid="true"' in field[0]
        for each, text in written.items():
            kept = re.search(rf'<input[^>]*name="{each}"[^>]*>', html)
            assert kept is not None and f'value="{text}"' in kept[0], each
    assert (await fleet.get(f"{P}/rollouts")).json["items"] == []


async def test_a_form_grows_with_its_phases(fleet: Site) -> None:
    for count, rows in ((0, 3), (3, 5), (19, 20), (20, 20)):
        names = ["percent", *(f"percent_{n}" for n in range(2, 21))][:count]
        fields = {name: str(n + 1) for n, name in enumerate(names)}
        html = await tried(fleet, {"model": "m", **fields})
        assert html.count("<legend>Phase") == rows


async def plan_page(site: Site, rollout: str, **fields: str) -> str:
    query = f"?{urlencode(fields)}" if fields else ""
    return await read_page(site, f"/rollouts/{rollout}/plan{query}")


async def test_the_page_of_a_plan_shows_the_phases_that_have_not_begun(fleet: Site) -> None:
    phases = [{"percent": 10}, {"percent": 20.5, "after_s": 5400}, {"percent": 60}]
    rollout = await roll_out(fleet, plan={"phases": phases})
    html = await plan_page(fleet, rollout)
    values = re.findall(r'name="(?:percent|after)(?:_\d+)?" value="([^"]*)"', html)
    assert [each for each in values if each] == ["20.5", "1 h 30 min", "60"]


async def test_a_plan_is_tried_and_changed_once(fleet: Site) -> None:
    rollout = await roll_out(fleet, plan={"phases": [{"percent": 10}, {"percent": 20}]})
    html = await plan_page(fleet, rollout, percent="15", after="1 d", percent_2="100")
    assert re.findall(r'class="state[^"]*">(\w+)<', html) == ["done", "current", "next"]
    assert html.count("expected <time") == 1
    fields: FormFields = {**hidden_fields(html), "reason": "It goes well"}
    for _ in range(2):
        assert (await send(fleet, f"/rollouts/{rollout}/plan", fields)).status == 303
    found = await shown(fleet, rollout)
    assert [(each["percent"], each["state"]) for each in found["phases"]] == [
        (10, "done"),
        (15, "current"),
        (100, "next"),
    ]
    page = text_of(await read_page(fleet, f"/rollouts/{rollout}"))
    assert "gave it a plan of 2 further phases" in page and "It goes well" in page


async def test_a_plan_that_somebody_changed_meanwhile_is_not_changed_again(fleet: Site) -> None:
    rollout = await roll_out(fleet, percent=10)
    html = await plan_page(fleet, rollout, percent="15", percent_2="100")
    await post(fleet, f"rollouts/{rollout}/plan", {"plan": {"phases": [{"percent": 50}]}})
    answer = await send(fleet, f"/rollouts/{rollout}/plan", hidden_fields(html))
    assert answer.status == 412
    assert (await shown(fleet, rollout))["percent"] == 50


async def test_a_plan_that_reaches_fewer_devices_is_explained_at_its_row(fleet: Site) -> None:
    rollout = await roll_out(fleet, percent=10)
    answer = await fleet.get(f"{CONSOLE}/rollouts/{rollout}/plan?percent=5", "operator")
    assert answer.status == 409
    assert b"already reaches 10 %" in answer.body and b'aria-invalid="true"' in answer.body


async def test_a_changed_plan_that_needs_approval_says_so(fleet: Site) -> None:
    rollout = await roll_out(fleet, percent=10)
    await set_up(fleet, approvals=1)
    html = await plan_page(fleet, rollout, percent="15", percent_2="100")
    assert "waits until 1 member other than you" in text_of(html)
    assert (await send(fleet, f"/rollouts/{rollout}/plan", hidden_fields(html))).status == 303
    assert (await shown(fleet, rollout))["state"] == "waiting"


async def test_only_people_who_steer_see_and_open_the_page_of_a_plan(fleet: Site) -> None:
    rollout = await roll_out(fleet, percent=10)
    link = f'href="{CONSOLE}/rollouts/{rollout}/plan"'
    assert link in await read_page(fleet, f"/rollouts/{rollout}")
    for role in ("viewer", "auditor"):
        assert link not in await read_page(fleet, f"/rollouts/{rollout}", role)
        assert (await fleet.get(f"{CONSOLE}/rollouts/{rollout}/plan", role)).status == 403
        assert (
            await send(fleet, f"/rollouts/{rollout}/plan", {"percent": "50"}, role)
        ).status == 403
    await post(fleet, f"rollouts/{rollout}/abort")
    assert link not in await read_page(fleet, f"/rollouts/{rollout}")

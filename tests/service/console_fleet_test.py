"""Checks the fleet page and the search: their numbers are those of the API, for every role."""

import re

import pytest

from firmtrail.commands import demo_fleet
from firmtrail.database.database import Statement
from firmtrail.projections import device_current
from firmtrail.rebuilding import fitness, generations
from firmtrail.rebuilding.builder import LEASE_MS
from tests.databases import write
from tests.people import begin_session, issue_token
from tests.service.forms import CONSOLE, read_page
from tests.service.site import P, Site
from tests.service.steered import post

FLEET = "/console/acme"


async def page(site: Site, path: str = FLEET, caller: str = "admin") -> str:
    answer = await site.get(path, caller)
    assert answer.status == 200, answer.body
    return answer.body.decode()


def facts(html: str) -> dict[str, str]:
    found = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", html)
    return {name: value.replace("\N{NARROW NO-BREAK SPACE}", "") for value, name in found}


async def test_the_fleet_page_counts_what_the_api_counts(fleet: Site) -> None:
    await fleet.report({"version": "1.2.0"})
    shown = facts(await page(fleet))
    assert shown["on their latest release"] == "50.0%"
    assert (shown["failing"], shown["silent for 7 days"]) == ("0", "0")


async def test_a_withdrawn_version_is_not_the_latest_release(fleet: Site) -> None:
    await fleet.report({"version": "1.2.0"})
    await post(fleet, "releases/m/1.2.0/withdraw", {"reason": "it reboots"})
    assert facts(await page(fleet))["on their latest release"] == "0.0%"


async def test_a_new_device_is_shown_as_never_called_and_counts_as_silent_after_a_week(
    fleet: Site,
) -> None:
    await post(fleet, "devices", {"device": "new", "model": "m"})
    assert facts(await page(fleet))["silent for 7 days"] == "0"
    for path in ("/devices", "/devices/new"):
        assert (await page(fleet, FLEET + path)).count("never called") == 1
    week = device_current.SILENT_MS + 1
    text = "UPDATE device_current SET registered_at_ms = registered_at_ms - $1 WHERE device = $2"
    await write(fleet.services.db, text, week, "new")
    assert facts(await page(fleet))["silent for 7 days"] == "1"


async def test_a_failing_device_and_a_paused_rollout_are_noted(fleet: Site) -> None:
    started = await post(fleet, "rollouts", {"version": "1.2.0", "model": "m"})
    name = started.json["id"]
    await fleet.get(f"{P}/devices/d1/update", "device")
    assert facts(await page(fleet))["on their way"] == "1"
    await fleet.report({"version": "1.2.0", "status": "failed"})
    await post(fleet, f"rollouts/{name}/pause", {"reason": "look first"})
    html = await page(fleet, caller="viewer")
    assert "1 device failed" in html
    assert f'href="{FLEET}/rollouts/{name}">Look at it' in html
    assert "is paused: look first" in html


async def test_the_feed_says_what_devices_did_last(fleet: Site) -> None:
    html = await page(fleet, caller="viewer")
    assert re.search(r'href="/console/acme/devices/d2">d2</a> installed', html)
    assert "became" not in html, "members are no matter of the feed"
    assert "/log/" not in html, "a viewer may not read the log"
    assert "/log/1/" in await page(fleet, caller="auditor")


@pytest.mark.parametrize(
    ("caller", "is_offered"),
    [("viewer", False), ("auditor", False), ("operator", True), ("admin", True)],
)
async def test_only_those_who_may_steer_see_how_to(
    fleet: Site, caller: str, is_offered: bool
) -> None:
    html = await page(fleet, caller=caller)
    assert ("Halt everything" in html) == is_offered
    assert "Halt everything" not in await page(fleet, f"{FLEET}?as_of=@5", caller)


async def test_the_past_shows_the_versions_of_then(fleet: Site) -> None:
    size = (await fleet.get(f"{P}/devices")).headers["Firmtrail-Log-Size"]
    await fleet.report({"version": "1.2.0"})
    now, then = await page(fleet), await page(fleet, f"{FLEET}?as_of=@{size}")
    versions = [re.findall(r'version=([\d.]+)[^"]*">', html) for html in (now, then)]
    assert versions == [["1.2.0", "1.0.0"], ["1.0.0"]]
    assert 'hx-get="' not in then, "the past does not move"


async def test_the_past_marks_no_release_that_was_withdrawn_later(fleet: Site) -> None:
    await fleet.report({"version": "1.2.0"})
    size = (await fleet.get(f"{P}/devices")).headers["Firmtrail-Log-Size"]
    assert (await post(fleet, "releases/m/1.2.0/withdraw", {"reason": "It burns"})).status == 200
    now, then = await page(fleet), await page(fleet, f"{FLEET}?as_of=@{size}")
    assert [">withdrawn<" in html for html in (now, then)] == [True, False]


async def test_a_rollout_of_a_plan_is_under_way_as_far_as_its_plan_is(fleet: Site) -> None:
    phases = [{"percent": 0, "after_s": 0}, {"percent": 50}]
    answer = await post(
        fleet, "rollouts", {"version": "1.2.0", "model": "m", "plan": {"phases": phases}}
    )
    await fleet.call("PATCH", P, caller="admin", json={"approvals": 1})
    waiting = await post(fleet, "rollouts", {"version": "1.2.0", "model": "m"})
    assert (answer.status, waiting.json["state"]) == (201, "waiting")
    html = await page(fleet)
    for name, reach, state in (
        (answer.json["id"], "50", "runs"),
        (waiting.json["id"], "100", "waiting"),
    ):
        [row] = re.findall(rf"<tr><td><a href=\"{FLEET}/rollouts/{name}\".*?</tr>", html, re.DOTALL)
        assert f">{reach}" in row and f">{state}</span>" in row, row


async def test_a_search_of_the_past_finds_what_there_was(fleet: Site) -> None:
    size = (await fleet.get(f"{P}/devices")).headers["Firmtrail-Log-Size"]
    await post(fleet, "devices", {"device": "later-1"})
    await post(fleet, "releases", {"model": "m", "version": "7.0.0"})
    rollout = (await post(fleet, "rollouts", {"version": "1.2.0", "model": "m"})).json["id"]
    for text in ("later-1", "7.0.0", rollout, size):
        assert (await fleet.get(f"{FLEET}/search?q={text}", "auditor")).status == 303, text
        html = await page(fleet, f"{FLEET}/search?q={text}&as_of=@{size}", "auditor")
        assert "Nothing has a name that begins so" in html, text
    html = await page(fleet, f"{FLEET}/search?q=d&as_of=@{size}", "viewer")
    assert f'href="{FLEET}/devices/d1?as_of=' in html


async def test_an_empty_project_says_what_would_fill_it(site: Site) -> None:
    html = await page(site, "/console/other", "stranger")
    assert "firmtrail device add pump-1 --project other" in html


async def test_the_live_part_is_read_again_alone(fleet: Site) -> None:
    html = await page(fleet, f"{FLEET}?part=live")
    assert html.lstrip().startswith('<div class="live"')


@pytest.mark.parametrize(
    ("text", "leads_to"),
    [
        ("d1", "/devices/d1"),
        ("1.1.0", "/releases/m/1.1.0"),
        ("3", "/log/1/3"),
        ("%20d1", "/devices/d1"),
    ],
)
async def test_a_name_leads_to_its_page(fleet: Site, text: str, leads_to: str) -> None:
    answer = await fleet.get(f"{FLEET}/search?q={text}")
    assert (answer.status, answer.headers["Location"]) == (303, f"{FLEET}{leads_to}")


async def test_a_beginning_lists_its_matches(fleet: Site) -> None:
    html = await page(fleet, f"{FLEET}/search?q=1.")
    assert re.findall(r'href="/console/acme/releases/m/([\d.]+)"', html) == [
        "1.2.0",
        "1.1.0",
        "1.0.0",
    ]
    part = await page(fleet, f"{FLEET}/search?q=d&part=matches")
    assert "<html" not in part
    assert re.findall(r'<span class="mono">(\w+)</span>', part) == ["d1", "d2"]


async def test_a_search_that_finds_nothing_says_so(fleet: Site) -> None:
    html = await page(fleet, f"{FLEET}/search?q=%3Cscript%3E")
    assert "Nothing has a name that begins so" in html
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


async def test_the_chart_has_the_numbers_of_the_timeline(site: Site) -> None:
    admin = (await site.services.db.read(Statement("SELECT actor_id FROM members LIMIT 1")))[0][0]
    await demo_fleet.ensure(site.services.db, admin)
    access = site.services.access
    log_id = await access.project(demo_fleet.PROJECT)
    assert log_id is not None
    token = await issue_token(site.services.recorder, log_id, admin, "admin")
    site.credentials["demo"] = token.text
    site.sessions["demo"] = await begin_session(site.services.db, access, admin)
    html = await page(site, f"/console/{demo_fleet.PROJECT}?model=pump", "demo")
    rows = re.findall(
        r'<tr><th scope="row"><time datetime="([^"]+)".*?</th>(.*?)</tr>', html, re.DOTALL
    )
    head = html.partition('id="shares-rows"')[2].partition("</thead>")[0]
    shown = re.findall(r'<th scope="col" class="n">([^<]+)</th>', head)
    names = [None if name == "nothing yet" else name for name in shown]
    for time, cells in rows[1:-1:7]:
        path = f"/api/v1/projects/{demo_fleet.PROJECT}/versions?as_of={time}"
        known = {
            each["version"]: each["devices"]
            for each in (await site.get(path, "demo")).json["items"]
            if each["model"] == "pump"
        }
        counts = map(int, re.findall(r'class="n">(\d+)<', cells))
        assert {name: n for name, n in zip(names, counts, strict=True) if n} == known
    assert len(rows) > 30


async def test_the_fleet_page_says_that_views_are_being_rebuilt(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "PREPARED_EVENTS_MAX", -1)  # as if the log were long
    db, names = site.services.db, frozenset({"device_history"})
    await db.play(generations.claim, site.log_id, names, "another process", LEASE_MS)
    await write(db, "UPDATE views SET revision = revision - 1 WHERE name = 'device_history'")
    await site.services.builder.look()
    html = await page(site)
    assert "Views are being rebuilt (device_history)" in html
    assert await page(site, f"{FLEET}?part=live") in html
    assert (await site.get(f"{FLEET}/search?q=d1")).status == 503


async def test_the_fleet_page_says_that_devices_run_a_withdrawn_release(fleet: Site) -> None:
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "it burns"})
    link = f'<a href="{CONSOLE}/releases/m/1.0.0'
    assert f'{link}/recall">Recall it…</a>' in await read_page(fleet, "", "operator")
    seen = await read_page(fleet, "", "viewer")
    assert "2 devices run 1.0.0 of m, which is withdrawn." in seen
    assert f'{link}">Look at it</a>' in seen and "Recall it…" not in seen
    wish = {"bad_version": "1.0.0", "model": "m", "to": "1.2.0", "reason": "it burns"}
    recall = (await post(fleet, "rollbacks", wish)).json["rollout"]
    shown = await read_page(fleet, "", "viewer")
    assert f'<a href="{CONSOLE}/rollouts/{recall}">Look at the recall</a>' in shown

"""Reads and steers rollouts through their pages."""

import re
from urllib.parse import urlencode

import pytest
from cachetools import TTLCache

from firmtrail.console.pages import rollout_counts, rollouts
from firmtrail.events.times import time_text
from firmtrail.http import rollout_states
from firmtrail.http.respond import LOG_SIZE
from tests.service.console_rollouts import fail
from tests.service.forms import CONSOLE, confirm, hidden_fields, read_page, send, text_of
from tests.service.site import D, P, Site
from tests.service.steered import post, roll_out


async def test_a_page_without_rollouts_says_how_to_start_one(fleet: Site) -> None:
    html = await read_page(fleet, "/rollouts")
    assert "firmtrail rollout start" in html
    assert f'href="{CONSOLE}/rollouts/start"' in html


async def test_a_rollout_shows_its_states_failures_and_orders(fleet: Site) -> None:
    rollout = await roll_out(fleet, pause_if={"failed_percent": 2, "min_reports": 1})
    await fail(fleet)
    shown = text_of(await read_page(fleet, f"/rollouts/{rollout}"))
    assert "1 failed" in shown and "1 held" in shown
    assert "no space left" in shown
    assert "operator@example.org" in shown and "started it at 100 %" in shown
    assert "of 1 outcomes 1 failed: 100.0" in shown
    assert "the service paused it: 1 of 1 outcomes failed" in shown


async def test_a_rollout_says_who_paused_it_and_what_its_states_mean(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    assert rollouts.MEANINGS["pending"] in await read_page(fleet, f"/rollouts/{rollout}")
    await post(fleet, f"rollouts/{rollout}/pause")
    shown = text_of(await read_page(fleet, f"/rollouts/{rollout}"))
    assert "operator@example.org (for a test) paused it just now" in shown
    assert "Nothing more is offered until somebody resumes it" in shown
    assert rollouts.MEANINGS.keys() == rollouts.KINDS.keys()


async def test_each_count_of_a_rollout_links_to_the_devices_that_it_counts(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await fail(fleet)
    html = await read_page(fleet, f"/rollouts/{rollout}")
    links = re.findall(rf'href="({CONSOLE}/rollouts/{rollout}/devices\?state=\w+)"><b>(\d+)', html)
    assert dict(links) == {
        f"{CONSOLE}/rollouts/{rollout}/devices?state=failed": "1",
        f"{CONSOLE}/rollouts/{rollout}/devices?state=pending": "1",
    }
    listed = await read_page(fleet, f"/rollouts/{rollout}/devices?state=failed")
    assert f'href="{CONSOLE}/devices/d1"' in listed and f'href="{CONSOLE}/devices/d2"' not in listed


async def test_a_large_rollout_shows_what_is_counted_as_it_comes(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "WALKED_MAX", 1)
    rollout = await roll_out(fleet)
    await fail(fleet)
    shown = text_of(await read_page(fleet, f"/rollouts/{rollout}"))
    assert "1 failed" in shown and "1 not offered yet" in shown and "0 installed" in shown


async def test_every_state_of_a_large_rollout_is_counted_in_parts(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "WALKED_MAX", 1)
    monkeypatch.setattr(rollout_counts, "COUNTED", 1)
    rollout = await roll_out(fleet)
    await fail(fleet)
    path = f"/rollouts/{rollout}/count"
    assert f'href="{CONSOLE}{path}"' in await read_page(fleet, f"/rollouts/{rollout}")
    first = await read_page(fleet, path, "viewer")
    assert "1 of 2 devices counted" in text_of(first) and "data-continue" in first
    rest = await read_page(fleet, f"{path}?{urlencode(hidden_fields(first), doseq=True)}")
    assert "All 2 devices, at position" in text_of(rest) and "data-continue" not in rest
    counts = re.findall(r"devices\?state=(\w+)\"><b>(\d+)", rest)
    assert counts == [("failed", "1"), ("pending", "1")]


async def test_the_states_of_a_rollout_are_a_part_that_is_read_again(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    answer = await fleet.get(f"{CONSOLE}/rollouts/{rollout}?part=states", "viewer")
    assert answer.body.strip().startswith(b'<section class="card" id="states"')


async def test_the_states_of_a_rollout_name_the_log_size_of_their_counts(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet.services.shared, "_kept", TTLCache(10, ttl=60))
    rollout = await roll_out(fleet)
    path = f"{CONSOLE}/rollouts/{rollout}?part=states"
    before = await fleet.get(path, "viewer")
    await fail(fleet)
    after = await fleet.get(path, "viewer")
    assert after.body == before.body
    assert after.headers[LOG_SIZE] == before.headers[LOG_SIZE]
    whole = await fleet.get(f"{CONSOLE}/rollouts/{rollout}", "viewer")
    assert int(whole.headers[LOG_SIZE]) > int(before.headers[LOG_SIZE])


async def test_a_rollout_is_tried_with_its_numbers_and_then_started(fleet: Site) -> None:
    tried = await read_page(fleet, "/rollouts/start?model=m&version=1.1.0&percent=50&cohort=&tag=")
    assert "2 devices match" in text_of(tried)
    assert (await fleet.get(f"{P}/rollouts")).json["items"] == []
    fields = hidden_fields(tried)
    for _ in range(2):  # a form that is sent twice starts one rollout
        answer = await send(fleet, "/rollouts/start", fields)
        assert answer.status == 303
    [started] = (await fleet.get(f"{P}/rollouts")).json["items"]
    assert answer.headers["Location"] == f"{CONSOLE}/rollouts/{started['id']}"
    assert (started["version"], started["percent"]) == ("1.1.0", 50)


async def test_a_form_that_is_sent_again_with_other_values_is_refused(fleet: Site) -> None:
    tried = await read_page(fleet, "/rollouts/start?model=m&version=1.1.0&percent=50&cohort=&tag=")
    fields = hidden_fields(tried)
    assert (await send(fleet, "/rollouts/start", fields)).status == 303
    for other in ({"version": "1.2.0"}, {"percent": "5"}):
        answer = await send(fleet, "/rollouts/start", {**fields, **other})
        assert answer.status == 409
        assert "with other values" in answer.body.decode()
    [started] = (await fleet.get(f"{P}/rollouts")).json["items"]
    assert (started["version"], started["percent"]) == ("1.1.0", 50)
    assert (await send(fleet, "/rollouts/start", fields)).status == 303, "the same form is done"


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("model=m&version=9.9.9", "has no release 9.9.9"),
        ("model=m&version=1.1.0&cohort=c&tag=t", "name only one of the two"),
        ("model=m&version=1.1.0&failed_percent=5", "is missing"),
        ("model=m&version=1.1.0&percent=101", "a percentage from 0 to 100"),
    ],
)
async def test_a_rollout_that_cannot_be_is_explained(fleet: Site, query: str, word: str) -> None:
    answer = await fleet.get(f"{CONSOLE}/rollouts/start?{query}", "operator")
    assert answer.status == 422
    assert word in answer.body.decode()


async def test_orders_are_given_with_their_reasons(fleet: Site) -> None:
    rollout = await roll_out(fleet, percent=10)
    path = f"/rollouts/{rollout}"
    for order, fields in (
        ("pause", {"reason": "lunch"}),
        ("resume", {}),
        ("advance", {"percent": "33,5 %"}),
        ("abort", {"reason": "enough"}),
    ):
        answer = await confirm(fleet, f"{path}/{order}", **fields)
        assert (answer.status, answer.headers["Location"]) == (303, f"{CONSOLE}{path}"), order
    found = (await fleet.get(f"{P}/rollouts/{rollout}")).json
    assert (found["state"], found["percent"], found["state_reason"]) == ("aborted", 33.5, "enough")
    shown = text_of(await read_page(fleet, path))
    assert "paused it : “ lunch ”" in shown.replace("it: ", "it : ")


async def test_an_order_on_a_state_that_somebody_changed_is_explained_and_not_given(
    fleet: Site,
) -> None:
    rollout = await roll_out(fleet, percent=10)
    html = await read_page(fleet, f"/rollouts/{rollout}/advance")
    await post(fleet, f"rollouts/{rollout}/pause", {"reason": "by somebody else"})
    fields = {**hidden_fields(html), "percent": "50"}
    answer = await send(fleet, f"/rollouts/{rollout}/advance", fields)
    assert answer.status == 412
    assert b"Somebody changed this while your page was open" in answer.body
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["percent"] == 10


async def test_a_refused_order_is_explained(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    answer = await confirm(fleet, f"/rollouts/{rollout}/advance", percent="50")
    assert answer.status == 409
    assert b"a rollout only grows" in answer.body


async def test_a_viewer_sees_no_control_and_cannot_use_one(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    for path in ("/rollouts", f"/rollouts/{rollout}"):
        html = await read_page(fleet, path, "viewer")
        assert "Recall" not in html and 'method="post"' not in html and "Start a" not in html
    for path in (f"/rollouts/{rollout}/abort", "/rollouts/start", "/releases/m/1.1.0/recall"):
        assert (await fleet.get(f"{CONSOLE}{path}", "viewer")).status == 403
        assert (await send(fleet, path, {"reason": "x"}, "viewer")).status == 403
    assert (await fleet.get(f"{P}/rollouts/{rollout}")).json["state"] == "running"


async def test_hostile_details_and_reasons_are_shown_as_text(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await fail(fleet, detail="<script>alert(1)</script> \u202e")
    await post(fleet, f"rollouts/{rollout}/pause", {"reason": "<img src=x onerror=alert(2)>"})
    html = await read_page(fleet, f"/rollouts/{rollout}")
    assert "<script>alert" not in html and "<img src=x" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


async def test_a_plan_is_shown_with_its_phases_and_begins_the_next_on_request(fleet: Site) -> None:
    when = {"installed_percent": 90, "min_reports": 50}
    phases = [{"percent": 1.5, "after_s": 3600, "when": when}, {"percent": 20}, {"percent": 60}]
    window = {"cron": "* 3 * * *", "duration_s": 7200, "timezone": "device"}
    rollout = await roll_out(fleet, plan={"phases": phases}, window=window)
    path = f"/rollouts/{rollout}"
    text = text_of(await read_page(fleet, path))
    assert "90 % of at least 50 outcomes are installs" in text and "when a person begins" in text
    assert "opens at * 3 * * * for" in text and "by the clock of each device" in text
    assert await states_of(fleet, path) == ["current", "next", "next"]
    asked = await read_page(fleet, f"{path}/advance")
    assert "reaches 20 %" in text_of(asked) and 'name="percent" value="20"' in asked
    for _ in range(2):  # a form that is sent twice begins one phase
        assert (await send(fleet, f"{path}/advance", hidden_fields(asked))).status == 303
    assert await states_of(fleet, path) == ["done", "current", "next"]
    late = {**hidden_fields(asked), "key": "another"}
    assert (await send(fleet, f"{path}/advance", late)).status == 412
    assert (await confirm(fleet, f"{path}/advance")).status == 303
    assert "Begin the next phase" not in await read_page(fleet, path)
    assert (await fleet.get(f"{CONSOLE}{path}/advance", "operator")).status == 409
    assert (await fleet.get(f"{P}{path}")).json["percent"] == 60


async def states_of(site: Site, path: str) -> list[str]:
    """Returns the states of the phases, as the page and the API both have them."""
    html = await read_page(site, path)
    shown = re.findall(r'<span class="state[^"]*">(done|current|next)</span>', html)
    found = (await site.get(f"{P}{path}")).json["phases"]
    assert shown == [each["state"] for each in found]
    return shown


async def test_a_rollout_that_waits_is_approved_by_another_member_or_rejected(
    fleet: Site,
) -> None:
    await fleet.call("PATCH", P, caller="admin", json={"approvals": 1})
    first, second = await roll_out(fleet), await roll_out(fleet)
    path = f"/rollouts/{first}"
    own = await read_page(fleet, path)
    assert "0 of 1: another member that may start rollouts has to approve it" in text_of(own)
    assert "Approve…" not in own and "Reject…" in own
    assert "Approve…" not in await read_page(fleet, path, "viewer")
    assert "Approve…" in await read_page(fleet, path, "admin")
    assert (await confirm(fleet, f"{path}/approve")).status == 409
    assert (await confirm(fleet, f"{path}/approve", "admin")).status == 303
    assert (await fleet.get(f"{P}{path}")).json["state"] == "running"
    assert "Approve…" not in await read_page(fleet, path, "admin")
    other = f"/rollouts/{second}/reject"
    assert (await send(fleet, other, hidden_fields(await read_page(fleet, other)))).status == 422
    assert (await confirm(fleet, other, "admin", reason="not on a Friday")).status == 303
    shown = text_of(await read_page(fleet, f"/rollouts/{second}"))
    assert "admin@example.org" in shown and "not on a Friday" in shown


async def test_a_person_that_changed_a_plan_sees_no_way_to_approve_it(fleet: Site) -> None:
    await fleet.call("PATCH", P, caller="admin", json={"approvals": 1})
    rollout = await roll_out(fleet)
    path, plan = f"/rollouts/{rollout}", {"plan": {"phases": [{"percent": 100}]}}
    assert "Approve…" in await read_page(fleet, path, "admin")
    answer = await fleet.call("POST", f"{P}{path}/plan", caller="admin", json=plan)
    assert answer.status == 200, answer.body
    assert "Approve…" not in await read_page(fleet, path, "admin")


async def test_a_rollout_that_is_scheduled_says_when_it_starts(fleet: Site) -> None:
    start_ms = fleet.services.access.now_ms() + 86_400_000
    rollout = await roll_out(fleet, start_at=time_text(start_ms))
    html = await read_page(fleet, f"/rollouts/{rollout}")
    assert re.search(rf"<dt>Starts</dt><dd><time datetime=\"{time_text(start_ms)[:16]}", html)
    shown = text_of(html)
    assert "scheduled for" in shown and "· started" not in shown
    assert re.search(r"Starts \d+\s\w{3}.*? \d\d:\d\d UTC", shown)


@pytest.mark.parametrize(
    "path", ["/rollouts/none", "/rollouts/none/devices", "/rollouts/none/abort"]
)
async def test_an_unknown_rollout_is_404(fleet: Site, path: str) -> None:
    assert (await fleet.get(f"{CONSOLE}{path}", "operator")).status == 404


async def test_the_page_of_a_halt_counts_only_rollouts_that_are_not_over(fleet: Site) -> None:
    over, paused = await roll_out(fleet), await roll_out(fleet)
    await post(fleet, f"rollouts/{over}/abort")
    await post(fleet, f"rollouts/{paused}/pause")
    assert "1 rollout or recall is under way" in text_of(await read_page(fleet, "/halt"))


async def test_a_project_is_halted_and_the_halt_ended(fleet: Site) -> None:
    await roll_out(fleet)
    asked = await read_page(fleet, "/halt")
    assert "2 devices are offered nothing" in text_of(asked)
    assert "Halt: all but recalls everything, recalls too" in text_of(asked)
    assert (await confirm(fleet, "/halt", reason="smoke")).status == 303
    assert (await fleet.get(f"{D}/update", "device")).json["reason"] == "halted"
    assert (await confirm(fleet, "/halt?all=true")).status == 303
    assert (await confirm(fleet, "/resume")).status == 303
    assert (await fleet.get(f"{D}/update", "device")).json["reason"] == "rollout"
    assert (await fleet.get(f"{CONSOLE}/halt", "viewer")).status == 403


async def test_a_page_of_few_devices_in_a_state_says_how_many_it_looked_at(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/rollouts/{await roll_out(fleet)}/devices"
    held = text_of(await read_page(fleet, f"{path}?state=held"))
    assert "No device is held." in held
    monkeypatch.setattr(rollout_states, "PAGE_ITEMS_MAX", 1)
    monkeypatch.setattr(rollout_states, "BATCHES_MAX", 1)
    held = text_of(await read_page(fleet, f"{path}?state=held"))
    assert "Looked at 1 devices: none of them is held so far. There may be more." in held
    assert "No device is held" not in held
    last = text_of(await read_page(fleet, f"{path}?state=held&after=d2"))
    assert "No further device is held." in last

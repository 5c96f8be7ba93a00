"""Reads and changes devices through their pages."""

import re
from html import unescape
from typing import Any
from urllib.parse import unquote

import pytest

from firmtrail.http.device_lists import DeviceFilters
from firmtrail.projections import device_pages, fleet_past
from tests.service.forms import (
    CONSOLE,
    FormFields,
    confirm,
    hidden_fields,
    read_page,
    send,
    text_of,
)
from tests.service.site import D2, D, P, Site
from tests.service.steered import age, post, roll_out


async def listed(site: Site, query: str = "") -> list[str]:
    html = await read_page(site, f"/devices{query}", "viewer")
    return re.findall(rf'<th scope="row"><a class="mono" href="{CONSOLE}/devices/([^"?]+)', html)


async def device(site: Site, path: str = D) -> Any:
    return (await site.get(path)).json


QUERIES = (
    "version=1.0.0",
    "version=9.0.0",
    "model=m&cohort=&tag=",
    "cohort=north",
    "tag=t",
    "outdated=true",
    "outdated=false",
    "failing=true",
    "silent_for=3600",
    "q=d",
    "q=e",
    "pending=false",
    "attribute=site:hamburg",
    "attribute=site:hamburg&attribute=site:bremen",
)


async def test_a_filter_lists_what_the_api_lists(fleet: Site) -> None:
    new = {"device": "e1", "model": "m", "cohort": "north", "tags": ["t"]}
    await post(fleet, "devices", [new, {"device": "e2"}])
    said = {"mode": "merge", "data": {"site": "hamburg"}}
    await fleet.call("PUT", f"{P}/devices/e1/attributes", caller="operator", json=said)
    for query in QUERIES:
        asked = "&".join(part for part in query.split("&") if not part.endswith("="))
        api = (await fleet.get(f"{P}/devices?{asked}")).json["items"]
        assert await listed(fleet, f"?{query}") == [each["device"] for each in api], query


async def test_each_filter_of_the_api_has_a_field(fleet: Site) -> None:
    form = (await read_page(fleet, "/devices", "viewer")).partition('class="filters"')[2]
    named = re.findall(r'<(?:input|select) name="(\w+)"', form.partition("</form>")[0])
    assert sorted(named) == sorted(DeviceFilters.__struct_fields__)


async def test_the_list_continues_after_its_last_device(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.console.pages.devices.SHOWN_MAX", 1)
    assert await listed(fleet) == ["d1"]
    html = await read_page(fleet, "/devices?model=m", "viewer")
    assert f'href="{CONSOLE}/devices?model=m&amp;after=d1"' in html
    assert await listed(fleet, "?model=m&after=d1") == ["d2"]


async def test_the_list_as_of_a_position_is_that_of_the_api(fleet: Site) -> None:
    size = int((await fleet.get(f"{P}/devices")).headers["Firmtrail-Log-Size"])
    await fleet.report({"version": "1.2.0"})
    html = await read_page(fleet, f"/devices?as_of=@{size}&version=1.0.0", "viewer")
    api = (await fleet.get(f"{P}/devices?as_of=@{size}&version=1.0.0")).json["items"]
    assert [each["device"] for each in api] == ["d1", "d2"]
    assert html.count('<th scope="row">') == 2
    assert 'method="post"' not in html and "checkbox" not in html


async def test_the_file_that_a_list_links_is_that_of_the_api(fleet: Site) -> None:
    for suffix, media in (("csv", "text/csv"), ("ndjson", "application/x-ndjson")):
        page = await fleet.get(f"{CONSOLE}/devices.{suffix}?version=1.0.0", "viewer")
        api = await fleet.get(f"{P}/devices?version=1.0.0", "viewer", Accept=media)
        assert page.headers["Content-Type"].startswith(media)
        assert page.body == api.body and page.body.count(b"1.0.0") == 2


async def test_an_empty_project_says_how_a_device_gets_in(site: Site) -> None:
    for path in (D, D2):
        await site.call("DELETE", path, caller="operator")
    assert "firmtrail device add" in await read_page(site, "/devices")


async def test_a_device_shows_what_it_ran_and_why_it_runs_it(fleet: Site) -> None:
    rollout = await roll_out(fleet)
    await fleet.get(f"{D}/update", "device")
    answer = await fleet.report({"version": "1.1.0", "detail": "<b>ok</b>"})
    html = await read_page(fleet, "/devices/d1", "auditor")
    shown = text_of(html)
    assert "1.1.0 upgrade from 1.0.0" in shown and "1.0.0 first report" in shown
    assert "runs what is ordered . It runs 1.1.0" in shown  # 1.2.0 is the latest
    assert f"({rollout} reaches buckets below 10 000; the device's is " in shown
    assert f'href="{CONSOLE}/rollouts/{rollout}"' in html
    assert f'href="{CONSOLE}/log/1/{answer.json["position"]}"' in html
    assert "&lt;b&gt;ok&lt;/b&gt;" in html and "<b>ok" not in html
    assert 'aria-label="Versions over time, the newest on the right: 1.0.0, 1.1.0"' in html


async def test_an_offer_is_shown_with_the_times_of_the_offer_and_of_its_outcome(
    fleet: Site,
) -> None:
    await roll_out(fleet)
    await fleet.get(f"{D}/update", "device")
    await age(fleet)
    await fleet.report({"version": "1.1.0"})
    [offer] = (await fleet.get(f"{D}/explain")).json["offers"]
    installed_at = (await device(fleet))["since"]
    html = (await read_page(fleet, "/devices/d1")).partition("What it was offered")[2]
    shown = re.findall(r'(\w+) <time datetime="([^"]+)"', html.partition("</ul>")[0])
    assert shown == [("installed", installed_at), ("offered", offer["offered_at"])]
    assert installed_at > offer["offered_at"]


async def test_a_device_shows_what_it_says_of_itself(fleet: Site) -> None:
    assert "What it says of itself" not in await read_page(fleet, "/devices/d1", "viewer")
    said = {"data": {"site": "<b>lyon</b>", "radio": "lte:m"}}
    await fleet.call("PUT", f"{D}/attributes", caller="operator", json=said)
    html = await read_page(fleet, "/devices/d1", "viewer")
    assert "What it says of itself radio lte:m site <b>lyon</b>" in unescape(text_of(html))
    assert "<b>lyon" not in html
    assert f'href="{CONSOLE}/devices?attribute=radio:lte:m"' in unescape(unquote(html))
    assert await listed(fleet, "?attribute=radio:lte:m") == ["d1"]
    size = int((await fleet.get(f"{P}/devices")).headers["Firmtrail-Log-Size"])
    assert "lyon" not in await read_page(fleet, f"/devices/d1?as_of=@{size}", "viewer")


@pytest.mark.parametrize("part", ["ran", "should", "facts"])
async def test_each_live_part_of_a_device_is_a_piece_of_its_page(fleet: Site, part: str) -> None:
    await roll_out(fleet)
    answer = await fleet.get(f"{CONSOLE}/devices/d1?part={part}", "auditor")
    assert answer.status == 200
    assert answer.body.strip().startswith(b'<section class="card" id="' + part.encode())


async def test_a_device_that_never_reported_says_how_it_reports(fleet: Site) -> None:
    await post(fleet, "devices", {"device": "new", "model": "m"})
    html = await read_page(fleet, "/devices/new")
    assert "has not reported a version yet" in html and "/devices/new/reports" in html


async def test_a_viewer_gets_no_link_into_the_log_and_no_control(fleet: Site) -> None:
    html = await read_page(fleet, "/devices/d1", "viewer")
    assert f"{CONSOLE}/log/" not in html and 'method="post"' not in html and "Pin…" not in html
    for order in ("pin", "labels", "retry", "secret", "decommission", "restore"):
        assert (await fleet.get(f"{CONSOLE}/devices/d1/{order}", "viewer")).status == 403
        sent = await send(fleet, f"/devices/d1/{order}", {"version": "1.0.0"}, "viewer")
        assert sent.status == 403
    assert (await send(fleet, "/devices/d1/ask", {}, "viewer")).status == 403
    assert (await send(fleet, "/devices/bulk", {"what": "ask"}, "viewer")).status == 403


async def test_a_device_of_the_past_shows_what_was_known_then(fleet: Site) -> None:
    size = int((await fleet.get(D)).headers["Firmtrail-Log-Size"])
    await fleet.report({"version": "1.2.0"})
    html = await read_page(fleet, f"/devices/d1?as_of=@{size}")
    assert "1.2.0" not in html and "1.0.0" in html
    assert "data-every" not in html and 'method="post"' not in html


async def test_a_device_without_a_target_does_not_run_its_version_by_a_rollout(
    fleet: Site,
) -> None:
    rollout = await roll_out(fleet)
    await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "bad"})
    html = await read_page(fleet, "/devices/d1")
    shown = text_of(html)
    assert (
        f"keeps its version . It runs 1.0.0 . The rollout that covers it is {rollout[:10]}" in shown
    )
    assert "and its release is withdrawn." in shown
    assert "by r_" not in shown
    assert f'href="{CONSOLE}/rollouts/{rollout}"' in html


async def test_a_device_of_the_past_knows_nothing_of_what_happened_to_releases_since(
    fleet: Site,
) -> None:
    size = int((await fleet.get(D)).headers["Firmtrail-Log-Size"])
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "bad"})
    assert "the release is withdrawn" in await read_page(fleet, "/devices/d1")
    assert "the release is withdrawn" not in await read_page(fleet, f"/devices/d1?as_of=@{size}")


async def test_a_device_is_asked_and_its_answer_appears_in_the_part(fleet: Site) -> None:
    assert (await send(fleet, "/devices/d1/ask", {})).status == 303
    part = await fleet.get(f"{CONSOLE}/devices/d1?part=facts", "viewer")
    assert b"no answer yet" in part.body and b'data-every="2"' in part.body
    question = (await fleet.get(f"{D}/asks")).json["items"][0]["question"]
    await fleet.report({"version": "1.0.0", "status": "running", "question": question})
    part = await fleet.get(f"{CONSOLE}/devices/d1?part=facts", "viewer")
    assert b"It answered" in part.body and b"no answer yet" not in part.body


async def test_a_device_is_pinned_labelled_and_let_try_again(fleet: Site) -> None:
    await confirm(fleet, "/devices/d1/pin", version="1.1.0")
    await confirm(fleet, "/devices/d1/labels", model="m", cohort="north", tags="b, a b")
    found = await device(fleet)
    assert (found["pinned"], found["cohort"], found["tags"]) == ("1.1.0", "north", ["b", "a"])
    await confirm(fleet, "/devices/d1/pin", version="")
    assert (await device(fleet))["pinned"] is None
    assert (await confirm(fleet, "/devices/d1/retry", version="1.1.0")).status == 303
    refused = await confirm(fleet, "/devices/d1/labels", tags="no!tag")
    assert refused.status == 422 and b"is not a tag" in refused.body


async def test_a_change_on_a_device_that_somebody_changed_is_explained(fleet: Site) -> None:
    html = await read_page(fleet, "/devices/d1/labels")
    await fleet.call("PATCH", D, caller="operator", json={"cohort": "south"})
    answer = await send(fleet, "/devices/d1/labels", {**hidden_fields(html), "cohort": "north"})
    assert answer.status == 412
    assert (await device(fleet))["cohort"] == "south"


async def test_a_secret_is_shown_once_and_works(fleet: Site) -> None:
    fields = hidden_fields(await read_page(fleet, "/devices/d1/secret"))
    shown, again = [await send(fleet, "/devices/d1/secret", fields) for _ in range(2)]
    assert shown.headers["Cache-Control"] == "no-store"
    [secret] = re.findall(rb"fts_[\w-]{43}", shown.body)
    assert b"fts_" not in again.body and b"was shown already" in again.body
    fleet.credentials["device"] = secret.decode()
    assert (await fleet.report({"version": "1.1.0"})).status == 201


async def test_a_device_is_decommissioned_and_restored(fleet: Site) -> None:
    assert (await confirm(fleet, "/devices/d1/decommission")).status == 303
    assert (await fleet.report({"version": "1.1.0"})).status == 401
    html = await read_page(fleet, "/devices/d1")
    assert "This device is decommissioned" in html and "Restore" in html
    restored = await confirm(fleet, "/devices/d1/restore")
    [secret] = re.findall(rb"fts_[\w-]{43}", restored.body)
    fleet.credentials["device"] = secret.decode()
    assert (await fleet.report({"version": "1.1.0"})).status == 201


async def test_many_devices_are_changed_in_parts_with_the_count_first(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.console.pages.devices_bulk.BATCH", 2)
    await post(fleet, "devices", [{"device": f"e{n}", "cohort": "old"} for n in range(5)])
    asked = await send(fleet, "/devices/bulk", {"what": "labels", "cohort": "old"})
    assert "5 devices" in text_of(asked.body.decode())
    fields = {**hidden_fields(asked.body.decode()), "new_cohort": "new"}
    seen = []
    while fields:
        answer = await send(fleet, "/devices/bulk", fields)
        html = answer.body.decode()
        seen.append(re.findall(r"(\d+) of 5 done", html)[0])
        fields = hidden_fields(html)
    assert seen == ["2", "4", "5"]
    found = (await fleet.get(f"{P}/devices?cohort=new&count=true")).json
    assert (found["total"], (await device(fleet))["cohort"]) == (5, None)


async def test_chosen_devices_are_decommissioned_and_refusals_are_counted(fleet: Site) -> None:
    chosen: dict[str, str | list[str]] = {"what": "decommission", "device": ["d1", "d9"]}
    asked = await send(fleet, "/devices/bulk", chosen)
    assert not (await device(fleet))["decommissioned"]
    done = await send(fleet, "/devices/bulk", hidden_fields(asked.body.decode()))
    assert "2 of 2 done, 1 refused" in text_of(done.body.decode())
    assert (await device(fleet))["decommissioned"]
    assert not (await device(fleet, D2))["decommissioned"]


async def test_all_that_match_are_asked(fleet: Site) -> None:
    asked = await send(fleet, "/devices/bulk", {"what": "ask", "model": "m"})
    await send(fleet, "/devices/bulk", hidden_fields(asked.body.decode()))
    for path in (D, D2):
        assert len((await fleet.get(f"{path}/asks")).json["items"]) == 1


@pytest.mark.parametrize("path", ["/devices/none", "/devices/none/pin", "/devices/d1/frobnicate"])
async def test_what_there_is_not_is_404(fleet: Site, path: str) -> None:
    assert (await fleet.get(f"{CONSOLE}{path}", "operator")).status == 404


async def test_devices_that_wait_are_listed_and_accepted_or_rejected(fleet: Site) -> None:
    await fleet.call("PATCH", P, caller="admin", json={"enrolment": "approve"})
    terms = {"project": "acme", "role": "gateway", "registers": True}
    issued = await fleet.call("POST", "/api/v1/tokens", caller="operator", json=terms)
    fleet.credentials["join"] = issued.json["token"]
    for name in ("n1", "n2"):
        await fleet.call(
            "POST", f"{P}/devices/{name}/reports", caller="join", json={"version": "1.0.0"}
        )
    html = await read_page(fleet, "/devices?pending=true")
    assert re.findall(rf'href="{CONSOLE}/devices/(\w+)"', html) == ["n1", "n2"]
    assert "n1" not in await read_page(fleet, "/devices?pending=false")
    [note] = (await fleet.get(f"{P}/attention")).json["items"]
    assert (note["kind"], note["devices"]) == ("pending", 2)
    assert "/devices?pending=true" in await read_page(fleet, "")
    assert (await fleet.get(f"{CONSOLE}/devices?pending=true&as_of=@3")).status == 422
    assert "Accept…" not in await read_page(fleet, "/devices/n1", "viewer")
    assert "waits to be accepted" in await read_page(fleet, "/devices/n1")
    for name, order in (("n1", "accept"), ("n2", "reject")):
        asked = await read_page(fleet, f"/devices/{name}/{order}")
        for _ in range(2):  # a form that is sent twice decides once
            sent = await send(fleet, f"/devices/{name}/{order}", hidden_fields(asked))
            assert sent.headers["Location"] == f"{CONSOLE}/devices/{name}"
        assert "waits to be accepted" not in await read_page(fleet, f"/devices/{name}")
    states = [(await fleet.get(f"{P}/devices/{name}")).json for name in ("n1", "n2")]
    assert [each["decommissioned"] for each in states] == [False, True]
    assert (await confirm(fleet, "/devices/d1/accept")).status == 409
    assert (await send(fleet, "/devices/n1/accept", {}, "viewer")).status == 403


async def test_a_count_that_looked_at_some_devices_says_at_least(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (D, D2):
        await fleet.call("PATCH", path, caller="operator", json={"tags": ["lab"]})

    async def counted() -> str:
        part = await fleet.get(f"{CONSOLE}/devices?tag=lab&q=d&part=count", "viewer")
        return text_of(part.body.decode())

    assert await counted() == "2 match"
    monkeypatch.setattr(device_pages, "LOOKED_AT_MAX", 1)
    assert await counted() == "at least 1 match"
    assert "2 match" in text_of(await read_page(fleet, "/devices?tag=lab", "viewer"))
    form: FormFields = {"what": "decommission", "tag": "lab", "q": "d"}
    asked = await send(fleet, "/devices/bulk", form)
    assert "at least 1" in text_of(asked.body.decode())
    for said in ("1 of at least 1 done", "2 of at least 2 done", "2 done"):
        asked = await send(fleet, "/devices/bulk", hidden_fields(asked.body.decode()))
        assert said in text_of(asked.body.decode())


async def test_a_page_without_a_match_names_the_next_until_all_were_looked_at(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_pages, "LOOKED_AT_MAX", 1)
    path, pages = f"{P}/devices?tag=none", [(await fleet.get(f"{P}/devices?tag=none")).json]
    while pages[-1]["next"] is not None:
        pages.append((await fleet.get(f"{path}&cursor={pages[-1]['next']}")).json)
    assert (len(pages), [page["items"] for page in pages if page["items"]]) == (3, [])
    assert "No device matches." in text_of(await read_page(fleet, "/devices?tag=none", "viewer"))
    html = await read_page(fleet, "/devices?tag=none&q=d", "viewer")
    assert "Looked at 1 devices: none of them matches so far. There may be more." in text_of(html)
    assert "No device matches" not in text_of(html)
    last = await read_page(fleet, "/devices?tag=none&after=d2", "viewer")
    assert "No further device matches." in text_of(last) and "Looked at" not in text_of(last)


async def test_a_short_page_says_how_many_devices_it_looked_at(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (await fleet.get(f"{P}/versions")).headers["Firmtrail-Log-Size"]
    await fleet.call("PATCH", D, caller="operator", json={"tags": ["lab"]})
    monkeypatch.setattr(device_pages, "LOOKED_AT_MAX", 1)
    whole = text_of(await read_page(fleet, "/devices?tag=lab", "viewer"))
    assert "1 match" in whole and "Looked at" not in whole
    short = text_of(await read_page(fleet, "/devices?tag=lab&q=d", "viewer"))
    assert "Looked at 1 devices. There may be more. Look further" in short
    monkeypatch.setattr(fleet_past, "CHUNK_DEVICES", 1)
    monkeypatch.setattr(fleet_past, "CHUNKS_MAX", 1)
    then = text_of(await read_page(fleet, f"/devices?tag=lab&as_of=@{size}", "viewer"))
    assert "Looked at 1 devices: none of them matches so far." in then

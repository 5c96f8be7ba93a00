"""Tests a project that continues in a new log: users see one log, auditors both."""

import asyncio
import re
from typing import Any

import msgspec

from firmtrail.access import projects
from firmtrail.events.times import time_ms
from firmtrail.eventstore import log
from tests.publishing import ACME, opened
from tests.service.continued import go_on
from tests.service.site import D, P, Site

FIRST = {"version": "1.0.0", "report_id": "a", "detail": "the first"}
SECOND = {"version": "1.1.0", "report_id": "b"}


async def test_views_texts_and_roles_are_those_of_both_logs(site: Site) -> None:
    first = (await site.report(FIRST)).json
    await site.call("PATCH", P, caller="admin", json={"max_attempts": 7})
    paths = (P, D, f"{P}/devices", f"{P}/versions", f"{P}/members")
    before = [(await site.get(path)).json for path in paths]
    [line] = (await site.get(f"{D}/history")).json["items"]
    await go_on(site)
    assert [(await site.get(path)).json for path in paths] == before
    assert b"\nfirmtrail_devices 2.0\n" in (await site.call("GET", "/metrics")).body
    [old] = (await site.get(f"{D}/history")).json["items"]
    assert old == line | {"log": 1}
    assert (old["position"], old["detail"]) == (first["position"], "the first")
    assert (await site.report(FIRST)).json == first | {"duplicate": True}
    second = (await site.report(SECOND)).json
    assert (second["log"], second["position"]) == (2, 1)
    newest, oldest = (await site.get(f"{D}/history?limit=2")).json["items"]
    assert oldest == old
    assert "log" not in newest
    assert (newest["position"], newest["previous_version"], newest["change"]) == (
        *(1, "1.0.0", "upgrade"),
    )
    paged = (await site.get(f"{D}/history?limit=1")).json
    [behind] = (await site.get(f"{D}/history?limit=1&cursor={paged['next']}")).json["items"]
    assert behind == old


async def test_reports_known_before_the_new_log_are_still_answered(site: Site) -> None:
    await site.report(FIRST)
    known_at = (await site.get(f"{D}/history")).json["items"][0]["recorded_at"]
    await asyncio.sleep(0.01)  # times are of milliseconds: the two are to differ
    await site.report(SECOND)
    recorded = (await site.get(f"{D}/history")).json["items"][0]["recorded_at"]
    await go_on(site)
    await site.report({"version": "1.2.0"})

    async def version(as_of: str) -> Any:
        answer = await site.get(f"{D}?as_of={as_of}")
        return answer.json.get("version"), answer.status

    assert await version("@0") == ("1.1.0", 200)
    assert await version("@2") == ("1.2.0", 200)
    assert await version(recorded) == ("1.1.0", 200)
    assert await version(known_at) == ("1.0.0", 200)
    counted = (await site.get(f"{P}/versions?as_of={known_at}")).json["items"]
    assert {(each["version"], each["devices"]) for each in counted} == {(None, 1), ("1.0.0", 1)}
    assert await version("2020-01-01T00:00:00Z") == (None, 404)


async def test_pages_of_a_time_before_the_new_log_name_the_old_one(site: Site) -> None:
    await site.report(FIRST)
    known_at = (await site.get(f"{D}/history")).json["items"][0]["recorded_at"]
    await asyncio.sleep(0.01)
    await site.report(SECOND)
    size = (await log.head(site.services.db, site.log_id)).size
    await go_on(site)
    for path in ("", "/devices", "/devices/d1", "/log", "/search?q=d"):
        joined = "&" if "?" in path else "?"
        answer = await site.get(f"/console/acme{path}{joined}as_of={known_at}", "admin")
        words = " ".join(re.sub(r"<[^>]*>", "", answer.body.decode()).split())
        assert f"As known at position {size - 1} of log 1, " in words, path
        assert "Log 2 begins " in words
        assert f"From the first {size - 1} events of log 1 of acme" in words
    answer = await site.get("/console/acme?as_of=2020-01-01T00:00:00Z", "admin")
    words = re.sub(r"<[^>]*>", "", answer.body.decode())
    assert "From the first 0 events of log 1 of acme" in words
    assert (await site.get(f"{P}/events?until={known_at}")).body == b""


async def test_an_entry_of_an_older_log_is_shown_as_of_a_time_that_knew_it(site: Site) -> None:
    await site.report(FIRST)
    [line] = (await site.get(f"{D}/history")).json["items"]
    await asyncio.sleep(0.01)
    await site.report(SECOND)
    await go_on(site)
    entry = f"/console/acme/log/1/{line['position']}"
    later = f"/console/acme/log/1/{line['position'] + 1}"
    then, new = f"as_of={line['recorded_at']}", "as_of=@0"
    html = (await site.get(f"/console/acme/devices/d1?{then}", "admin")).body.decode()
    assert f'href="{entry}?as_of=' in html
    for path, status in (
        (f"{entry}?{then}", 200),
        (f"{later}?{then}", 404),
        (f"{later}?{new}", 200),
        (f"/console/acme/log/2/0?{then}", 404),
        (f"/console/acme/log/2/0?{new}", 404),
    ):
        assert (await site.get(path, "admin")).status == status, path
    shown = [(await site.get(f"{entry}?{each}", "admin")).body for each in (then, new)]
    assert [b'rel="next"' in each for each in shown] == [False, True]


async def test_the_fleets_chart_shows_what_ran_before_the_new_log(site: Site) -> None:
    await site.report(FIRST)
    known_at = (await site.get(f"{D}/history")).json["items"][0]["recorded_at"]
    await asyncio.sleep(0.01)
    await site.report(SECOND)
    old, adoption = site.log_id, site.services.adoption
    times = [time_ms("2020-01-01T00:00:00Z"), time_ms(known_at)]
    before = await adoption.at(old, times, times[-1])
    assert {each.version for each in before[1]} == {None, "1.0.0"}
    await go_on(site)
    newest = await projects.newest_log(site.services.db, "acme")
    assert newest is not None
    assert newest[0] != old
    assert await adoption.at(newest[0], times, times[-1]) == before


async def test_an_actor_is_known_by_the_old_log(site: Site) -> None:
    members = (await site.get(f"{P}/members")).json["items"]
    path = f"{P}/actors/{members[0]['actor_id']}"
    [before] = (await site.get(path)).json["roles"]
    await go_on(site)
    assert (await site.get(path)).json["roles"] == [before | {"log": 1}]


async def test_auditors_have_both_logs(site: Site) -> None:
    receipt = (await site.report(FIRST)).json
    old = (await site.get(f"{P}/events")).body
    size, note = await go_on(site)
    assert (await site.get(f"{P}/logs/1/checkpoint")).body.decode() == note
    entry, *seals = map(msgspec.json.decode, (await site.get(f"{P}/events")).body.splitlines())
    assert {seal["type"] for seal in seals} == {"firmtrail.AccessRecordSealed.v1"}
    assert entry["type"] == "firmtrail.LogContinued.v1"
    assert entry["data"] == {"log": 1, "size": size, "checkpoint": note}
    proof = await site.get(f"{P}/logs/1/events/{receipt['position']}/proof")
    assert proof.body.decode().endswith(note)
    newest = opened((await site.get(f"{P}/log/checkpoint")).body.decode(), ACME._replace(number=2))
    assert newest.size > len(seals)
    answer = await site.call(
        "POST",
        f"{D}/reports",
        caller="device",
        json=FIRST,
        headers={"Prefer": "receipt=proof"},
    )
    assert answer.json["log"] == 1
    assert answer.json["proof"] == proof.body.decode()
    assert (await log.head(site.services.db, site.log_id)).size == len(old.splitlines()) == size


async def test_releases_and_rollouts_keep_their_texts(site: Site) -> None:
    async def post(path: str, **body: Any) -> Any:
        answer = await site.call("POST", f"{P}/{path}", caller="admin", json=body)
        assert answer.status in {200, 201}, answer
        return answer.json

    await post("releases", model="m", version="1.0.0", notes="what is new")
    await post("releases", model="m", version="2.0.0")
    rollout = (await post("rollouts", version="1.0.0", model="m"))["id"]
    await post(f"rollouts/{rollout}/pause", reason="too loud")
    back = await post("rollbacks", bad_version="2.0.0", model="m", to="1.0.0", reason="it burns")
    paths = [f"{P}/{path}" for path in ("releases/m/1.0.0", "releases/m/2.0.0")]
    paths += [f"{P}/rollouts/{name}" for name in (rollout, back["rollout"])]
    before = [(await site.get(path)).json for path in paths]
    kept, burns, paused, started = before
    assert (kept["notes"], burns["reason"]) == ("what is new", "it burns")
    assert (paused["state_reason"], started["reason"]) == ("too loud", "it burns")
    await go_on(site)
    assert [(await site.get(path)).json for path in paths] == before
    withdrawn = await post("releases/m/1.0.0/withdraw", reason="old")
    assert (withdrawn["notes"], withdrawn["reason"]) == ("what is new", "old")

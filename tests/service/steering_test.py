"""Checks steering over HTTP: check-ins, rollouts, halts, explanations, questions."""

import asyncio
import time
from contextlib import nullcontext
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.application import app
from firmtrail.http import rollout_states
from firmtrail.http import watch as watching
from firmtrail.http.watch import Watch
from firmtrail.recording.recorder import Recorder
from tests.databases import opened, read
from tests.patience import PATIENCE_S
from tests.people import new_access
from tests.service.routes import assert_is_problem
from tests.service.site import D2, D, P, Site
from tests.service.steered import check_in, post, roll_out

TABLES = {  # by the URL's scheme
    "sqlite": "SELECT name FROM sqlite_schema WHERE type = 'table'",
    "postgresql": """\
SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()""",
}


async def offers(site: Site) -> list[Any]:
    found = await site.get(f"{P}/events", "auditor")
    return [line for line in found.body.splitlines() if b"UpdateOffered" in line]


async def test_a_check_in_says_what_to_run_and_when_to_call_again(fleet: Site) -> None:
    answer = await check_in(fleet)
    assert answer.json == {
        "action": "none",
        "version": None,
        "rollout": None,
        "offer": None,
        "reason": "not_reached",
        "artifacts": [],
        "question": None,
        "report_wanted": False,
        "last_seq": None,
    }
    assert answer.headers["Cache-Control"] == "private, no-cache"
    same = await check_in(fleet, If_None_Match=answer.headers["ETag"])
    assert (same.status, same.body) == (304, b"")
    rollout = await roll_out(fleet)
    answered = await check_in(fleet, If_None_Match=answer.headers["ETag"])
    assert (answered.json["action"], answered.json["version"]) == ("update", "1.1.0")
    assert (answered.json["rollout"], answered.json["reason"]) == (rollout, "rollout")
    assert (await fleet.get(D)).json["target"] == "1.1.0"
    assert (await fleet.get(f"{P}/devices")).json["items"][0]["target"] == "1.1.0"


async def test_a_refused_check_in_says_when_to_call_again_too(fleet: Site) -> None:
    assert (await check_in(fleet, "?running=nonsense")).status == 422
    answer = await fleet.call("GET", f"{D}/update")
    assert answer.status == 401
    assert "Firmtrail-Poll-After" in answer.headers


async def test_only_the_first_offer_to_a_device_or_its_gateway_is_recorded(fleet: Site) -> None:
    await roll_out(fleet)
    seen = [(await check_in(fleet, caller="operator")).json for _ in range(2)]
    assert (seen[0]["version"], seen[0]["offer"]) == ("1.1.0", None)
    assert await offers(fleet) == []
    assert (await check_in(fleet)).json == seen[0] | {"offer": 1}
    await asyncio.gather(*(check_in(fleet) for _ in range(5)))
    assert len(await offers(fleet)) == 1
    await fleet.get(f"{D2}/update", "gateway")
    assert len(await offers(fleet)) == 2


async def test_a_check_in_that_names_its_version_is_decided_for_it_and_asks_for_a_report(
    fleet: Site,
) -> None:
    await roll_out(fleet)
    there = (await check_in(fleet, "?running=1.1.0")).json
    assert (there["reason"], there["report_wanted"]) == ("up_to_date", True)
    same = (await check_in(fleet, "?running=1.0.0")).json
    assert (same["version"], same["report_wanted"]) == ("1.1.0", False)


async def test_idle_polls_change_no_tables_row_count(fleet: Site, database_url: str) -> None:
    await roll_out(fleet)
    await check_in(fleet)
    db, seen = fleet.services.db, fleet.services.access.seen
    names = {name for [name] in await read(db, TABLES[database_url.partition(":")[0]])}
    assert {"events", "device_offers", "device_seen", "access_record"} < names
    tables = sorted(names - {"checkpoints"})  # publishing runs at its own pace

    async def rows() -> list[Any]:
        await seen.flush()
        counted = [await read(db, f"SELECT count(*) FROM {table}") for table in tables]
        return [tuple(row) for [row] in counted]

    before = await rows()
    etag = (await check_in(fleet)).headers["ETag"]
    for _ in range(10):
        await asyncio.gather(*(check_in(fleet, If_None_Match=etag) for _ in range(100)))
    assert await rows() == before


async def test_a_rollout_counts_the_devices_that_it_lists(fleet: Site) -> None:
    new = [{"device": "d3", "model": "m", "cohort": "c", "tags": ["t"]}, {"device": "d4"}]
    await post(fleet, "devices", [*new, {"device": "d5", "model": "m", "cohort": "c"}])
    await fleet.call("DELETE", f"{P}/devices/d5", caller="operator")
    for members, devices in (({}, 3), ({"cohort": "c"}, 1), ({"tag": "t"}, 1)):
        path = f"{P}/rollouts/{await roll_out(fleet, **members)}"
        listed = (await fleet.get(f"{path}/devices?count=true")).json["total"]
        assert (await fleet.get(path)).json["progress"]["matching"] == listed == devices


async def test_a_rollout_shows_its_progress(fleet: Site) -> None:
    pause_if = {"failed_percent": 50, "min_reports": 1}
    tried = await post(
        fleet, "rollouts", {"model": "m", "version": "1.1.0", "dry_run": True, "percent": 0}
    )
    assert (tried.status, tried.json["id"], tried.json["progress"]["matching"]) == (200, None, 2)
    rollout = await roll_out(fleet, pause_if=pause_if)
    await check_in(fleet)
    await fleet.report({"version": "1.1.0", "status": "failed"})
    found = (await fleet.get(f"{P}/rollouts/{rollout}")).json
    assert (found["state"], found["state_reason"]) == ("paused", "1 of 1 outcomes failed")
    assert found["pause_if"] == pause_if
    assert found["progress"] == {
        "matching": 2,
        "offered": 1,
        "installed": 0,
        "failed": 1,
        "exhausted": 0,
    }
    states = await fleet.get(f"{P}/rollouts/{rollout}/devices")
    assert {each["device"]: each["state"] for each in states.json["items"]} == {
        "d1": "failed",
        "d2": "held",
    }
    held = await fleet.get(f"{P}/rollouts/{rollout}/devices?state=held&count=true")
    assert (held.json["total"], held.json["items"][0]["reason"]) == (1, "paused")
    listed = (await fleet.get(f"{P}/rollouts?limit=1")).json
    assert [each["id"] for each in listed["items"]] == [rollout]


async def test_a_page_of_devices_in_a_state_reads_a_bounded_number_and_names_the_next(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = await roll_out(fleet)
    await fleet.call("PATCH", D2, caller="operator", json={"pinned": "1.0.0"})
    monkeypatch.setattr(rollout_states, "PAGE_ITEMS_MAX", 1)
    monkeypatch.setattr(rollout_states, "BATCHES_MAX", 1)
    path = f"{P}/rollouts/{rollout}/devices?state=held"
    first = (await fleet.get(path)).json
    assert first["items"] == []
    second = (await fleet.get(f"{path}&cursor={first['next']}")).json
    assert [each["device"] for each in second["items"]] == ["d2"]
    lines = (await fleet.get(path, Accept="application/x-ndjson")).body.splitlines()
    assert len(lines) == 1


async def test_a_halt_stops_everything_and_is_explained(fleet: Site) -> None:
    await roll_out(fleet)
    assert (await post(fleet, "halt", {"reason": "fire"})).json == {"halted": "rollouts"}
    assert (await check_in(fleet)).json["reason"] == "halted"
    assert_is_problem(await post(fleet, "halt"), 409)
    explained = (await fleet.get(f"{D}/explain", "viewer")).json
    assert (explained["reason"], explained["rules"][-1]["says"]) == (
        "halted",
        "the project is halted",
    )
    assert (await post(fleet, "resume")).json == {"halted": None}
    explained = (await fleet.get(f"{D}/explain", "viewer")).json
    assert [rule["rule"] for rule in explained["rules"]] == ["halt", "pin", "rollback", "rollout"]
    assert explained["target"] == (await check_in(fleet)).json["version"] == "1.1.0"


async def test_a_retry_offers_again_a_version_that_failed_too_often(fleet: Site) -> None:
    await roll_out(fleet)
    for _ in range(3):
        await check_in(fleet)
        await fleet.report({"version": "1.1.0", "status": "failed"}, {"version": "1.0.0"})
    assert (await check_in(fleet)).json["reason"] == "attempts_exhausted"
    assert (await post(fleet, "devices/d1/retry", {"version": "1.1.0"})).status == 200
    assert (await check_in(fleet)).json["version"] == "1.1.0"


async def test_a_question_is_delivered_answered_and_listed(fleet: Site) -> None:
    asked = await post(fleet, "devices/d1/ask")
    assert asked.status == 202
    question = (await check_in(fleet)).json["question"]
    assert question == asked.json["question"]
    failed = {"version": "9.9.9", "status": "failed", "question": question}
    assert (await fleet.report(failed)).status == 201
    assert (await check_in(fleet)).json[
        "question"
    ] == question  # that report does not name the version that runs
    answer = {"version": "1.0.0", "status": "running", "question": question}
    assert (await fleet.report(answer)).status == 201
    assert (await fleet.report(answer)).status == 200
    assert (await check_in(fleet)).json["question"] is None
    await post(fleet, "devices/d1/ask")
    listed = (await fleet.get(f"{D}/asks")).json["items"]
    assert [(each["state"], each["version"]) for each in listed] == [
        ("open", None),
        ("answered", "1.0.0"),
    ]


def counted_looks(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns a list that grows with each look for news, five times a second."""
    assert watching.EVERY_S <= 0.2
    looks, look = list[float](), watch._look

    async def counted() -> None:
        looks.append(time.monotonic())
        await look()

    monkeypatch.setattr(watch, "_look", counted)
    return looks


async def until_waited(watch: Watch) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not watch._waiters:
            await asyncio.sleep(0.01)


async def test_a_device_that_waits_is_answered_immediately(
    fleet: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = (await check_in(fleet)).headers["ETag"]
    looks = counted_looks(fleet.services.watch, monkeypatch)
    waiting = asyncio.create_task(check_in(fleet, "?wait=20", If_None_Match=etag))
    await until_waited(fleet.services.watch)
    await roll_out(fleet)
    before = len(looks)
    answered = await waiting
    assert answered.json["version"] == "1.1.0"
    assert len(looks) <= before + 1
    etag = answered.headers["ETag"]
    same = await check_in(fleet, "?wait=1", If_None_Match=etag)
    assert same.status == 304
    waiting = asyncio.create_task(check_in(fleet, "?wait=20", If_None_Match=etag))
    await asyncio.sleep(0.05)
    asking = asyncio.create_task(post(fleet, "devices/d1/ask?wait=20"))
    answered = await waiting
    question = answered.json["question"]
    await fleet.report({"version": "1.0.0", "status": "running", "question": question})
    answered = await asking
    assert (answered.status, answered.json["version"]) == (200, "1.0.0")


async def test_a_waiting_device_whose_secret_ends_is_refused(fleet: Site) -> None:
    etag = (await check_in(fleet)).headers["ETag"]
    waiting = asyncio.create_task(fleet.get(f"{D}/update?wait=20", "device", If_None_Match=etag))
    await asyncio.sleep(0.05)
    await post(fleet, "devices/d1/secret")
    assert_is_problem(await waiting, 401)


async def test_a_rollout_on_another_server_reaches_a_waiting_device(
    fleet: Site, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs two servers; an embedded database has one process, so they share that."""
    is_embedded = database_url.startswith("sqlite")
    db_of_other = nullcontext(fleet.services.db) if is_embedded else opened(database_url)
    async with db_of_other as db:
        recorder = Recorder(db)
        services = app.services(db, new_access(db), recorder, fleet.services.serving)
        looks = counted_looks(services.watch, monkeypatch)
        server = TestServer(app.build(services))
        await server.start_server(**app.RUNNER_OPTIONS)
        async with TestClient(server) as client:
            other = Site(client, fleet.services, fleet.log_id, fleet.credentials)
            etag = (await check_in(other)).headers["ETag"]
            waiting = asyncio.create_task(check_in(other, "?wait=20", If_None_Match=etag))
            await until_waited(services.watch)
            await roll_out(fleet)
            before = len(looks)
            assert (await waiting).json["version"] == "1.1.0"
            assert len(looks) <= before + 1
        await recorder.close()

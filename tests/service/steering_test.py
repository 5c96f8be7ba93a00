"""Checks steering over HTTP: check-ins, rollouts, rollbacks, halts, explanations, questions."""

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
from tests.service.steered import post, roll_out
from tests.serving import Answer

TABLES = {  # by the URL's scheme
    "sqlite": "SELECT name FROM sqlite_schema WHERE type = 'table'",
    "postgresql": """\
SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()""",
}


async def check_in(site: Site, query: str = "", caller: str = "device", **headers: str) -> Answer:
    answer = await site.get(f"{D}/update{query}", caller, **headers)
    assert int(answer.headers["Firmtrail-Poll-After"]) in range(240, 361)
    return answer


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


async def test_a_rollback_names_counts_and_sends_back(fleet: Site) -> None:
    await fleet.report({"version": "1.2.0"})
    await fleet.report({"version": "1.2.0"}, caller="operator", path=D2)
    await fleet.call("PATCH", D2, caller="operator", json={"pinned": "1.1.0"})
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns"}
    tried = await post(fleet, "rollbacks", {**wanted, "dry_run": True})
    assert tried.json == {
        "rollout": None,
        "devices": {"named": 2, "pinned": 1, "silent": 0, "no_previous": 0},
        "returns": [{"version": "1.0.0", "devices": 1}],
    }
    assert (await fleet.get(f"{P}/releases/m/1.2.0")).json["withdrawn"] is False
    begun = await post(fleet, "rollbacks", wanted)
    assert begun.status == 201
    assert (await fleet.get(f"{P}/releases/m/1.2.0")).json["withdrawn"] is True
    answered = (await check_in(fleet)).json
    assert (answered["action"], answered["version"]) == ("rollback", "1.0.0")
    await fleet.report({"version": "1.0.0"})
    found = (await fleet.get(f"{P}/rollouts/{begun.json['rollout']}")).json
    assert (found["kind"], found["reason"]) == ("rollback", "it burns")
    lines = (await fleet.get(f"{P}/events", "auditor")).body.splitlines()
    at = next(n for n, line in enumerate(lines) if b"RollbackStarted" in line)
    await fleet.call("DELETE", f"{P}/events/{at}/text", caller="admin")
    again = await fleet.get(f"{P}/rollouts/{begun.json['rollout']}")
    assert again.json["reason"] == "erased"
    assert found["devices"] == {"named": 1, "pinned": 1, "silent": 0, "no_previous": 0}
    assert (found["progress"]["matching"], found["progress"]["installed"]) == (2, 1)
    history = (await fleet.get(f"{D}/history")).json["items"]
    assert [line["change"] for line in history] == ["rollback", "upgrade", "first"]


async def test_a_device_without_a_previous_version_is_counted_and_gets_the_reason(
    fleet: Site,
) -> None:
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "old"})
    await fleet.report({"version": "1.2.0"})
    wanted = {"bad_version": "1.2.0", "model": "m"}
    tried = await post(fleet, "rollbacks", {**wanted, "dry_run": True})
    assert tried.json["devices"] == {"named": 1, "pinned": 0, "silent": 0, "no_previous": 1}
    assert_is_problem(await post(fleet, "rollbacks", wanted), 422)
    await post(fleet, "rollbacks", wanted | {"reason": "it burns"})
    assert (await check_in(fleet)).json["reason"] == "no_previous"


async def test_a_previous_version_that_failed_is_replaced_and_counted(fleet: Site) -> None:
    await fleet.report({"version": "1.1.0"}, {"version": "1.2.0"})
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns"}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]

    async def outcome() -> tuple[str | None, str, int]:
        """Returns what the device gets, and how many devices have no previous version."""
        answer = (await check_in(fleet)).json
        found = (await fleet.get(f"{P}/rollouts/{rollback}")).json
        shown = found["devices"]
        way = answer["version"]
        assert found["returns"] == ([{"version": way, "devices": 1}] if way else [])
        tried = (await post(fleet, "rollbacks", {**wanted, "dry_run": True})).json["devices"]
        assert shown["named"] == tried["named"] == 1
        assert shown["no_previous"] == tried["no_previous"]
        return answer["version"], answer["reason"], shown["no_previous"]

    assert await outcome() == ("1.1.0", "rollback", 0)
    second = {**wanted, "bad_version": "1.1.0"}
    assert (await post(fleet, "rollbacks", second)).status == 201
    assert await outcome() == ("1.0.0", "rollback", 0)
    for _ in range(3):
        await check_in(fleet)
        await fleet.report({"version": "1.0.0", "status": "failed"}, {"version": "1.2.0"})
    assert await outcome() == (None, "no_previous", 1)
    devices = (await fleet.get(f"{P}/rollouts/{rollback}/devices")).json["items"]
    assert [(each["state"], each["reason"]) for each in devices] == [("exhausted", "no_previous")]
    explained = (await fleet.get(f"{D}/explain")).json["rules"][-1]
    assert explained["says"].startswith("3 of 3 attempts at 1.0.0 failed, and there is no")
    await post(fleet, "devices/d1/retry", {"version": "1.0.0"})
    # A dry run knows no fixed offer, and the device failed on the version.
    assert (await check_in(fleet)).json["version"] == "1.0.0"
    assert (await fleet.get(f"{P}/rollouts/{rollback}")).json["devices"]["no_previous"] == 0


@pytest.mark.parametrize("lost", ["withdrawn", "exhausted"])
async def test_a_device_whose_fallback_is_lost_is_counted(fleet: Site, lost: str) -> None:
    await post(fleet, "devices", {"device": "x", "model": "m"})
    path = f"{P}/devices/x"
    await fleet.report({"version": "1.2.0"}, caller="gateway", path=path)
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns", "fallback": "1.1.0"}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]

    async def counted() -> int:
        shown = (await fleet.get(f"{P}/rollouts/{rollback}")).json["devices"]
        count: int = shown["no_previous"]
        return count

    assert await counted() == 0
    for _ in range(3 if lost == "exhausted" else 1):
        assert (await fleet.get(f"{path}/update", "gateway")).json["version"] == "1.1.0"
        failed = {"version": "1.1.0", "status": "failed"}
        await fleet.report(failed, {"version": "1.2.0"}, caller="gateway", path=path)
    if lost == "withdrawn":
        await post(fleet, "releases/m/1.1.0/withdraw", {"reason": "bad, too"})
    assert (await fleet.get(f"{path}/update", "gateway")).json["reason"] == "no_previous"
    assert await counted() == 1


async def test_a_fallback_that_failed_for_another_model_can_still_be_used(fleet: Site) -> None:
    for version in ("1.0.0", "1.1.0"):
        await post(fleet, "releases", {"model": "k", "version": version})
    await fleet.call("PATCH", D, caller="operator", json={"model": "k"})
    await post(fleet, "rollouts", {"model": "k", "version": "1.1.0"})
    for _ in range(3):
        assert (await check_in(fleet)).json["version"] == "1.1.0"
        await fleet.report({"version": "1.1.0", "status": "failed"})
    await post(fleet, "releases/m/1.0.0/withdraw", {"reason": "old"})
    await fleet.report({"version": "1.2.0"})
    await fleet.call("PATCH", D, caller="operator", json={"model": "m"})
    wanted = {"bad_version": "1.2.0", "model": "m", "reason": "it burns", "fallback": "1.1.0"}
    rollback = (await post(fleet, "rollbacks", wanted)).json["rollout"]
    named = (await fleet.get(f"{P}/rollouts/{rollback}")).json["devices"]
    assert (named["named"], named["no_previous"]) == (1, 0)
    assert (await check_in(fleet)).json["version"] == "1.1.0"


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

"""Views are rebuilt while requests are served; views that this code can't read are not served."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector, web
from structlog.testing import capture_logs

from firmtrail.application import app
from firmtrail.database.database import Database, Unavailable
from firmtrail.events.steering import RolloutStarted
from firmtrail.http import live_views
from firmtrail.projections import fold
from firmtrail.projections.adoption import SETTLED_MS
from firmtrail.rebuilding import builder, fitness, generations, rebuild, refold
from firmtrail.rebuilding.builder import LEASE_MS
from firmtrail.recording.recorder import Recorder
from tests.databases import read, write
from tests.fleet import NOON_MS, received, record_events, register, report
from tests.patience import PATIENCE_S
from tests.people import new_access
from tests.replay import differences
from tests.replay import generations as generations_of
from tests.service.preparing import OLDER, ONE_SWITCHED, prepare, revisions
from tests.service.routes import assert_is_problem
from tests.service.site import D, P, Site
from tests.service.steered import check_in
from tests.serving import Answer


@pytest.fixture
async def local(site: Site, tmp_path: Path) -> AsyncIterator[ClientSession]:
    """Opens the unix socket for the owner's commands, of another process on the same database."""
    path = str(tmp_path / "sock")
    access = new_access(site.services.db, local_socket=path)
    services = app.services(
        site.services.db, access, Recorder(site.services.db), site.services.serving
    )
    runner = web.AppRunner(app.build(services), **app.RUNNER_OPTIONS)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    async with ClientSession("http://local", connector=UnixConnector(path)) as session:
        yield session
    await runner.cleanup()
    access.hasher.close()


async def until_served(site: Site, path: str) -> Answer:
    """Asks until the views are rebuilt, or prepared and taken over; returns the answer."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await site.get(path)).status == 503:
            await asyncio.sleep(0.01)
    return answer


async def test_the_owner_can_rebuild_views(
    site: Site, local: ClientSession, db: Database, recorder: Recorder
) -> None:
    await recorder.report(site.log_id, [report("1.0.0"), report("1.1.0")])
    with capture_logs() as lines:
        for body in ({}, {"view": "fleet_versions"}):
            async with local.post("/local/projects/acme/rebuild", json=body) as response:
                assert response.status == 202
                state = await response.json()
            async with asyncio.timeout(PATIENCE_S):
                while state["views"] or state["is_running"]:
                    async with local.get("/local/projects/acme/rebuild") as response:
                        state = await response.json()
            assert (state["generation"], state["failure"]) == (None, None)
    named = [line["log"] for line in lines if line["event"] in {"rebuilding", "rebuilt"}]
    assert named == ["acme/1"] * 4
    live = {name: at for name, _, at in await db.read(fold.live(site.log_id))}
    assert live == dict.fromkeys(fold.REVISIONS, 2) | {"fleet_versions": 3}
    async with local.get("/metrics") as response:
        counted = await response.text()
    size = (await site.get(D)).headers["Firmtrail-Log-Size"]
    assert f"firmtrail_rebuild_events_total {2 * int(size)}.0" in counted
    assert "firmtrail_rebuilds 0.0" in counted
    assert await differences(db, site.log_id) == []


@pytest.mark.parametrize("view", ["releases", "rollouts"])
async def test_another_server_obeys_the_orders_of_a_view_that_is_rebuilt_as_its_rows_were_lost(
    fleet: Site, local: ClientSession, db: Database, view: str
) -> None:
    first = Recorder(db)
    await record_events(first, fleet.log_id, [("rollout/r1", RolloutStarted("1.1.0", "m", 10_000))])
    await first.close()
    await write(db, f"DELETE FROM {view}")
    assert (await fleet.report({"version": "1.0.1"})).status == 201
    assert (await check_in(fleet)).json["version"] is None
    async with local.post("/local/projects/acme/rebuild", json={"view": view}) as response:
        assert response.status == 202
    async with asyncio.timeout(PATIENCE_S):
        while (await generations_of(db, fleet.log_id))[view] == 1:
            await asyncio.sleep(0.01)
    await fleet.services.builder.look()
    assert (await check_in(fleet)).json["version"] == "1.1.0"
    assert await differences(db, fleet.log_id) == []


async def test_the_fleets_chart_reads_again_what_was_counted_before_a_rebuild(
    fleet: Site, db: Database
) -> None:
    [[known_at_ms]] = await read(db, "SELECT max(recorded_at_ms) FROM events")
    times, later_ms = [known_at_ms], known_at_ms + 2 * SETTLED_MS
    adoption = fleet.services.adoption
    right = await adoption.at(fleet.log_id, times, known_at_ms)
    await write(db, "DELETE FROM fleet_moves")
    assert await adoption.at(fleet.log_id, times, later_ms) != right
    views = frozenset({"fleet_versions"})
    build = await db.play(generations.claim, fleet.log_id, views, "me", 0)
    async for _ in rebuild.rebuild(db, build):
        pass
    assert await adoption.at(fleet.log_id, times, later_ms) == right


async def test_a_rebuild_of_an_unknown_view_is_refused(local: ClientSession) -> None:
    async with local.post("/local/projects/acme/rebuild", json={"view": "x"}) as response:
        assert response.status == 422
        [fault] = (await response.json())["errors"]
    assert fault["pointer"] == "/view"
    assert "device_history" in fault["reason"]


async def test_a_project_has_one_rebuild_at_a_time(
    site: Site, local: ClientSession, db: Database
) -> None:
    """Another process rebuilds: a request for the same views joins, one for more is refused."""
    wanted = frozenset({"fleet_versions"})
    await db.play(generations.claim, site.log_id, wanted, "other", 0)
    for body, status in (({"view": "fleet_versions"}, 202), ({}, 409)):
        async with local.post("/local/projects/acme/rebuild", json=body) as response:
            assert response.status == status
            answer = await response.json()
    assert answer["code"] == "rebuild_running"
    assert await read(db, "SELECT 1 FROM rebuilds WHERE builder <> 'other'") == []


async def test_a_view_of_older_code_is_rebuilt_automatically(
    site: Site, db: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "PREPARED_EVENTS_MAX", -1)  # as if the log were long
    await recorder.report(site.log_id, [report("1.0.0")])
    names = frozenset({"device_history"})
    await db.play(generations.claim, site.log_id, names, "another process", LEASE_MS)
    await write(db, "UPDATE views SET revision = revision - 1 WHERE name = 'device_history'")
    await write(db, "DELETE FROM device_history")
    await site.services.builder.look()
    assert site.services.builder.unfit
    assert_is_problem(await site.get(f"{D}/history"), 503)
    monkeypatch.undo()
    await write(db, "DELETE FROM rebuilds")  # as if the other process had ended
    await site.services.builder.begin()
    answer = await until_served(site, f"{D}/history")
    assert answer.json["items"][0]["version"] == "1.0.0"
    assert await revisions(db, site.log_id) == fold.REVISIONS
    assert (await site.report({"version": "1.1.0"})).status == 201
    assert await differences(db, site.log_id) == []


async def test_prepared_views_are_made_live_by_the_first_request(
    site: Site, db: Database, recorder: Recorder
) -> None:
    """Servers of another version record until then. Requests that come meanwhile wait for the same
    take-over, and the other project follows."""
    await recorder.report(site.log_id, [report("1.0.0")])
    await prepare(site, db)
    readiness, own = site.services.readiness, site.services.builder
    readiness.tasks.pop("rebuilds").cancel()  # or it might look between these three steps
    await write(db, f"{OLDER} + 1")
    await recorder.report(site.log_id, [report("0.9.0"), report("1.0.1")])
    await write(db, f"{OLDER} - 1")
    await own.look()
    readiness.keep("rebuilds", own.run())
    assert (await site.call("GET", "/readyz")).status == 200
    assert set((await generations_of(db, site.log_id)).values()) == {1}
    answers = await asyncio.gather(
        site.get(D), site.get(f"{P}/versions"), site.report({"version": "1.1.0"}), site.get(P)
    )
    assert [answer.status for answer in answers] == [200, 200, 201, 200]
    assert await revisions(db, site.log_id) == fold.REVISIONS
    async with asyncio.timeout(PATIENCE_S):
        while own.unfit:
            await asyncio.sleep(0.01)
    assert await differences(db, site.log_id) == []


async def test_a_take_over_that_takes_too_long_is_answered_with_503(
    site: Site, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "TAKE_OVER_S_MAX", 0.2)
    await prepare(site, db)
    await write(db, "UPDATE rebuilds SET builder = 'other', seen_at_ms = now_ms() + 60000")
    assert_is_problem(await site.get(D), 503)
    with pytest.raises(Unavailable, match="in time"):
        await live_views.require(site.services, site.log_id)
    assert_is_problem(await site.report({"version": "1.1.0"}), 503)
    monkeypatch.undo()
    await write(db, "UPDATE rebuilds SET seen_at_ms = 0")
    assert (await site.report({"version": "1.1.0"})).status == 201


async def test_views_that_are_no_longer_prepared_are_not_said_to_be_late(
    site: Site, db: Database
) -> None:
    """This server looked before its preparation was given up for one of another version."""
    await prepare(site, db)
    looking = site.services.readiness.tasks.pop("rebuilds")
    looking.cancel()  # or it might look, and begin another one
    await asyncio.wait([looking])
    await write(db, "UPDATE rebuilds SET revision = revision + 1")  # that of yet another version
    assert site.log_id in site.services.builder.prepared
    with pytest.raises(Unavailable, match="is being rebuilt"):
        await live_views.require(site.services, site.log_id)
    assert_is_problem(await site.get(D), 503)


async def test_a_server_whose_take_over_fails_is_not_ready(site: Site, db: Database) -> None:
    await prepare(site, db)
    assert (await site.call("GET", "/readyz")).status == 200
    await write(db, ONE_SWITCHED)
    assert_is_problem(await site.get(D), 503)
    with pytest.raises(Unavailable, match="could not be rebuilt"):
        await live_views.require(site.services, site.log_id)
    assert "views" in assert_is_problem(await site.call("GET", "/readyz"), 503)["detail"]
    [note] = (await site.get(f"{P}/attention")).json["items"]
    assert "one_switched" in note["says"] or "views.log_id" in note["says"]


async def test_the_log_is_read_without_taking_over(site: Site, db: Database) -> None:
    """Only an auditor's checkpoint does, if there are reads to seal before."""
    await prepare(site, db)
    before = await revisions(db, site.log_id)
    size = (await site.get(f"{P}/logs", "auditor")).json["items"][0]["size"]
    for path in ("key", f"tile/0/000.p/{size}", f"tile/entries/000.p/{size}", "checkpoints"):
        answer = await site.get(f"{P}/log/{path}", "auditor")
        assert (path, answer.status) == (path, 200)
    answer = await site.get(f"{P}/log/consistency?from=1&to={size}", "auditor")
    assert (answer.status, await revisions(db, site.log_id)) == (200, before)
    assert (await site.get(f"{P}/log/checkpoint", "auditor")).status == 200
    assert await revisions(db, site.log_id) == fold.REVISIONS


async def test_a_view_of_newer_code_is_neither_read_nor_written_nor_rebuilt(
    site: Site, db: Database
) -> None:
    await write(db, "UPDATE views SET revision = revision + 1 WHERE name = 'device_current'")
    await site.services.builder.look()
    for answer in (
        await site.get(D),
        await site.get(f"{P}/versions"),
        await site.report({"version": "1.0.0"}),
    ):
        assert_is_problem(answer, 503)
        assert int(answer.headers["Retry-After"]) >= 10
    assert "views" in assert_is_problem(await site.call("GET", "/readyz"), 503)["detail"]
    assert (await site.get(P)).status == 200
    assert await read(db, "SELECT 1 FROM rebuilds") == []
    await write(db, "UPDATE views SET revision = revision - 1 WHERE name = 'device_current'")
    await site.services.builder.look()
    assert (await site.report({"version": "1.0.0"})).status == 201


async def test_every_past_answers_the_same_before_during_and_after(
    site: Site, db: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refold, "BATCH_EVENTS_FIRST", 3)
    monkeypatch.setattr(refold, "BATCH_EVENTS_MAX", 3)
    monkeypatch.setattr(rebuild, "LAST_EVENTS_MAX", 2)
    lease_ms = 1000 * PATIENCE_S  # the site continues no rebuild that a slow machine delays
    monkeypatch.setattr(site.services.builder, "_lease_ms", lease_ms)
    await register(recorder, site.log_id, "d3", model="m")
    for version in ("1.0.0", "1.2.0", "1.1.0"):
        sent = [report(version, device=name, occurred_at_ms=NOON_MS) for name in ("d1", "d3")]
        await recorder.report(site.log_id, sent)
    noon = "2026-03-14T12:00:00Z"
    paths = [
        *(D, f"{D}?as_of=@20", f"{D}?at={noon}", f"{D}/history", f"{D}/history?at={noon}"),
        *(f"{P}/devices", f"{P}/devices?version=1.1.0&at={noon}", f"{P}/versions"),
        *(f"{P}/versions?as_of=@20", f"{P}/devices?count=true&model=m&as_of=@20"),
    ]

    async def answers() -> list[bytes]:
        found = [await site.get(path) for path in paths]
        assert [answer.status for answer in found] == [200] * len(paths)
        return [answer.body for answer in found]

    before, steps = await answers(), 0
    build = await db.play(generations.claim, site.log_id, frozenset(fold.REVISIONS), "me", 0)
    async for _ in rebuild.rebuild(db, build):
        assert await answers() == before
        steps += 1
    assert steps > 5
    await generations.delete_dead(db, site.log_id)
    assert await answers() == before


async def test_a_log_that_can_not_be_folded_is_named_and_the_live_view_still_serves(
    site: Site, local: ClientSession, db: Database, recorder: Recorder
) -> None:
    """Its head counts one event more than there is."""
    [receipt] = await recorder.report(site.log_id, [report("1.0.0")])
    await write(db, "UPDATE log_heads SET size = size + 1 WHERE log_id = $1", site.log_id)
    await local.post("/local/projects/acme/rebuild", json={})
    async with asyncio.timeout(PATIENCE_S):
        state: dict[str, Any] = {"is_running": True}
        while state["is_running"]:
            async with local.get("/local/projects/acme/rebuild") as response:
                state = await response.json()
    missing = received(receipt).position + 1
    assert f"position {missing} or one after it is missing" in state["failure"]
    assert state["views"] == sorted(fold.REVISIONS)
    assert (await site.get(f"{D}/history")).json["items"][0]["version"] == "1.0.0"

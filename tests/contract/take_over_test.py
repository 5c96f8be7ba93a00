"""Views are prepared next to those of another version, and made live when that is asked for."""

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic

import pytest

from firmtrail.database.database import Database, Unavailable
from firmtrail.events.event import Event
from firmtrail.events.fleet import ReleaseAdded, SettingsChanged
from firmtrail.events.steering import RolloutStarted
from firmtrail.projections import fold
from firmtrail.projections.controls import Controls
from firmtrail.rebuilding import builder, fitness, generations
from firmtrail.rebuilding.builder import Builder, Duty
from firmtrail.rebuilding.fitness import Fitness
from firmtrail.rebuilding.generations import Build
from firmtrail.rebuilding.rebuild import RebuildProgress, prepare, rebuild
from firmtrail.recording.recorder import Recorder
from tests.databases import new_log, read, write
from tests.fleet import record_events, register, report
from tests.patience import PATIENCE_S
from tests.replay import differences
from tests.service.preparing import ALL_SWITCHED, ONE_SWITCHED

ALL = frozenset(fold.REVISIONS)
STEERED: list[tuple[str, Event]] = [
    ("release/m/1.0.0", ReleaseAdded("m", "1.0.0")),
    ("rollout/r1", RolloutStarted("1.0.0", "m", 10_000)),
    ("project/acme", SettingsChanged(mender_id_attribute="serial")),
]
OTHER_FORM = "UPDATE views SET revision = revision + $1"
SERVER = Duty(is_alone=False, has_other_versions=True)
COMMAND = Duty(is_alone=False, has_other_versions=True, is_automatic=False)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "SETTLE_S", 0)


def new_builder(db: Database, duty: Duty) -> Builder:
    return Builder(db, duty, Controls(db), lambda *_: None)


async def ended(builder: Builder) -> None:
    """Waits until the builder works at nothing, and looks again."""
    async with asyncio.timeout(PATIENCE_S):
        while builder._running:
            await asyncio.wait([running.task for running in builder._running.values()])
            await asyncio.sleep(0)
    await builder.look()


async def revisions(db: Database, log_id: int) -> dict[str, int]:
    return {name: revision for name, revision, _ in await db.read(fold.live(log_id))}


async def test_servers_share_the_work_and_any_of_them_takes_over(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await register(recorder, log_id, "d1")
    await write(db, OTHER_FORM, -1)
    first, second = new_builder(db, SERVER), new_builder(db, SERVER)
    await first.look()
    await first.begin()
    await ended(first)
    await second.look()
    assert first.prepared == second.prepared == {log_id}
    before = await revisions(db, log_id)
    await write(db, OTHER_FORM, 1)
    await recorder.report(log_id, [report("1.0.0")])  # the other version still records
    await write(db, OTHER_FORM, -1)
    assert await revisions(db, log_id) == before != fold.REVISIONS
    await asyncio.gather(*(each.take_over(log_id) for each in (first, second, second)))
    assert first.unfit == second.unfit == frozenset()
    assert await revisions(db, log_id) == fold.REVISIONS
    await asyncio.gather(ended(first), ended(second))
    assert await differences(db, log_id) == []


async def test_the_way_back_from_newer_views_is_ordered_by_a_command(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await register(recorder, log_id, "d1")
    await write(db, OTHER_FORM, 1)
    server, command = new_builder(db, SERVER), new_builder(db, COMMAND)
    await server.look()
    await server.begin()
    assert await read(db, "SELECT name FROM rebuilds") == []
    assert await command.request_ahead(log_id) is not None
    await command.begin()
    assert command._requested != {}
    await ended(command)
    assert (command.prepared, (await command.state(log_id)).is_prepared) == (frozenset(), True)
    assert await revisions(db, log_id) != fold.REVISIONS
    await server.look()
    assert server.prepared == {log_id}
    await server.take_over(log_id)
    assert await revisions(db, log_id) == fold.REVISIONS
    await ended(server)
    assert await command.request_ahead(log_id) is None
    await command.begin()
    assert command._requested == {}
    assert await differences(db, log_id) == []


async def prepared(db: Database, log_id: int, recorder: Recorder) -> tuple[Builder, Builder]:
    """Returns two servers that have seen the views of a log prepared by the first of them."""
    await register(recorder, log_id, "d1")
    await write(db, OTHER_FORM, -1)
    first, second = new_builder(db, SERVER), new_builder(db, SERVER)
    await first.look()
    await first.begin()
    await ended(first)
    await second.look()
    return first, second


@pytest.mark.parametrize("view", ["releases", "rollouts"])
async def test_a_control_from_views_of_another_version_is_not_used_after_a_take_over(
    db: Database, log_id: int, recorder: Recorder, view: str
) -> None:
    await record_events(recorder, log_id, STEERED)
    await write(db, f"DELETE FROM {view}")  # the form of the other version
    await write(db, f"{OTHER_FORM} WHERE name = $2", -1, view)
    server, controls = new_builder(db, SERVER), Controls(db)
    await server.look()
    await server.begin()
    await ended(server)
    assert getattr(await controls.at(log_id, 3), view) == {}
    async with db.moment() as reader:
        assert getattr((await controls.at_moment(reader, log_id))[1], view) == {}
        assert (await controls.settings_at(reader, log_id)).mender_id_attribute == "serial"
    assert controls.known(log_id) is None
    await server.take_over(log_id)
    await ended(server)
    after = await controls.at(log_id, 3)
    assert (len(after.releases), len(after.rollouts)) == (1, 1)
    assert await controls.at(log_id, 3) is controls.known(log_id) is after


async def generations_of(db: Database, table: str) -> list[int]:
    return [row[0] for row in await read(db, f"SELECT DISTINCT generation FROM {table}")]


async def test_servers_that_take_over_at_once_make_the_prepared_views_live(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    servers = await prepared(db, log_id, recorder)
    built = await generations_of(db, "rebuilds")
    await asyncio.gather(*(each.take_over(log_id) for each in servers))
    await asyncio.gather(*(ended(each) for each in servers))
    assert await generations_of(db, "views") == built


async def test_a_server_whose_look_is_old_begins_no_rebuild_of_live_views(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    first, second = await prepared(db, log_id, recorder)
    built = await generations_of(db, "rebuilds")
    third = new_builder(db, SERVER)
    third._found = second._found._replace(prepared={})
    await first.take_over(log_id)
    await ended(first)
    await third.begin()
    await second.take_over(log_id)
    assert (second._running, third._running) == ({}, {})
    assert await generations_of(db, "views") == built
    assert await read(db, "SELECT name FROM rebuilds") == []


async def test_a_take_over_that_fails_in_the_middle_leaves_the_old_views_live(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    """The server that failed is not ready for the log until another one has taken it over."""
    first, second = await prepared(db, log_id, recorder)
    before = await revisions(db, log_id)

    await write(db, ONE_SWITCHED)
    await first.take_over(log_id)
    await write(db, ALL_SWITCHED)
    assert await revisions(db, log_id) == before
    assert (first.unfit, first.prepared) == ({log_id}, set())
    assert (await first.state(log_id)).failure is not None
    await second.look()
    await second.take_over(log_id)
    await ended(second)
    assert await revisions(db, log_id) == fold.REVISIONS
    assert await differences(db, log_id) == []
    await first.look()
    assert (first.unfit, (await first.state(log_id)).failure) == (set(), None)


async def test_a_take_over_that_is_interrupted_pauses_before_the_next_try(
    db: Database, log_id: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await prepared(db, log_id, recorder)
    tries = 0

    async def interrupted(_: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
        nonlocal tries
        tries += 1
        yield RebuildProgress(build, build.position)
        raise Unavailable("The archive is away.")

    monkeypatch.setattr(builder, "LOOK_EVERY_S", PATIENCE_S)
    monkeypatch.setattr(builder, "TAKE_OVER_S_MAX", 0.5)
    with monkeypatch.context() as broken:
        broken.setattr(builder, "rebuild", interrupted)
        with pytest.raises(Unavailable):
            await first.take_over(log_id)
    assert tries == 1
    await write(db, "UPDATE rebuilds SET seen_at_ms = 0")
    await second.take_over(log_id)
    await ended(second)
    assert await revisions(db, log_id) == fold.REVISIONS


async def test_a_preparation_that_is_cancelled_forgets_no_pause(
    db: Database, log_id: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = await prepared(db, log_id, recorder)

    async def endless(_: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
        await asyncio.Event().wait()
        yield RebuildProgress(build, build.position)

    build = await server._begun(log_id, ALL, endless, generations.resume)
    assert build is not None
    server._setbacks.interrupted(build, PATIENCE_S)
    await asyncio.sleep(0)
    server._running[log_id].task.cancel()
    await ended(server)
    assert server._setbacks.is_left_alone(log_id)


async def many_prepared(db: Database, logs: int) -> Builder:
    """Returns a server that has prepared the views of so many logs."""
    for number in range(logs):
        await new_log(db, f"p{number}")
    await write(db, OTHER_FORM, -1)
    server = new_builder(db, SERVER)
    await server.look()
    while len(server.prepared) < logs:
        await server.begin()
        assert len(server._running) <= builder.PARALLEL_MAX
        await ended(server)
    return server


async def test_a_server_takes_over_a_few_logs_at_a_time(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "PARALLEL_MAX", 2)
    server, running, most = await many_prepared(db, 5), 0, 0

    async def counted(db: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(builder.TRY_EVERY_S)
        async for step in rebuild(db, build):
            yield step
        running -= 1

    monkeypatch.setattr(builder, "rebuild", counted)
    await asyncio.gather(*map(server.take_over, server.unfit))
    await ended(server)
    assert (server.unfit, most) == (set(), 2)


async def test_logs_that_another_server_takes_over_cost_one_look_for_all(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, looks, real = await many_prepared(db, 5), 0, fitness.read
    await write(db, "UPDATE rebuilds SET builder = 'other', seen_at_ms = now_ms() + 60000")
    monkeypatch.setattr(builder, "TAKE_OVER_S_MAX", 0.5)

    async def counted(db: Database) -> Fitness:
        nonlocal looks
        looks += 1
        return await real(db)

    monkeypatch.setattr(fitness, "read", counted)
    began_s = monotonic()
    taking = await asyncio.gather(*map(server.take_over, server.unfit), return_exceptions=True)
    assert [type(each) for each in taking] == [Unavailable] * 5
    assert 1 <= looks <= (monotonic() - began_s) / builder.TRY_EVERY_S


async def test_a_request_that_waits_for_a_server_that_stops_gets_unavailable(
    db: Database, log_id: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "SETTLE_S", PATIENCE_S)
    server, _ = await prepared(db, log_id, recorder)
    running = asyncio.create_task(server.run())
    waiting = asyncio.create_task(server.take_over(log_id))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(Unavailable, match="stops"):
        await waiting
    await asyncio.wait([running])


async def test_no_log_is_left_out_when_there_are_more_than_one_page_of_views(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many_prepared(db, 3)
    whole = await fitness.read(db)
    assert (len(whole.differing), len(whole.prepared)) == (3, 3)
    for rows in (1, len(fold.REVISIONS) - 1, len(fold.REVISIONS), 3 * len(fold.REVISIONS)):
        monkeypatch.setattr(fitness, "PAGE_ROWS", rows)
        assert await fitness.read(db) == whole


async def test_an_ordered_rebuild_makes_views_live_that_a_server_only_prepared(
    db: Database, log_id: int, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "LOOK_EVERY_S", 0.05)
    await register(recorder, log_id, "d1")
    await write(db, OTHER_FORM, -1)
    build = await db.play(generations.claim, log_id, ALL, "server", 0)
    command = new_builder(db, COMMAND)
    await command.look()
    assert (await command.request(log_id, ALL)).builder == "server"
    async for _ in prepare(db, build):
        pass
    running = asyncio.create_task(command.run())
    async with asyncio.timeout(PATIENCE_S):
        while await revisions(db, log_id) != fold.REVISIONS:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])


async def test_no_request_joins_the_rebuild_of_another_version(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await register(recorder, log_id, "d1")
    await db.play(generations.claim, log_id, ALL, "other", 0)
    await write(db, "UPDATE rebuilds SET revision = revision + $1", 1)
    with pytest.raises(generations.Busy):
        await new_builder(db, COMMAND).request(log_id, ALL)

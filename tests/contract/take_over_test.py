"""Views are prepared next to those of another version, and made live when that is asked for."""

import asyncio

import pytest

from firmtrail.database.database import Database
from firmtrail.projections import fold
from firmtrail.rebuilding import builder, generations
from firmtrail.rebuilding.builder import Builder, Duty
from firmtrail.rebuilding.rebuild import prepare
from firmtrail.recording.recorder import Recorder
from tests.databases import read, write
from tests.fleet import register, report
from tests.patience import PATIENCE_S
from tests.replay import differences

ALL = frozenset(fold.REVISIONS)
OTHER_FORM = "UPDATE views SET revision = revision + $1"
SERVER = Duty(is_alone=False, has_other_versions=True)
COMMAND = Duty(is_alone=False, has_other_versions=True, is_automatic=False)


@pytest.fixture(autouse=True)
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "SETTLE_S", 0)


def new_builder(db: Database, duty: Duty) -> Builder:
    return Builder(db, duty, lambda *_: None)


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
    for each in (server, command):
        await each.look()
        await each.begin()
    assert await read(db, "SELECT name FROM rebuilds") == []
    assert await command.request_ahead(log_id) is not None
    await ended(command)
    assert (command.prepared, (await command.state(log_id)).is_prepared) == (frozenset(), True)
    assert await revisions(db, log_id) != fold.REVISIONS
    await server.look()
    assert server.prepared == {log_id}
    await server.take_over(log_id)
    assert await revisions(db, log_id) == fold.REVISIONS
    await ended(server)
    await command.look()
    assert await command.request_ahead(log_id) is None
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

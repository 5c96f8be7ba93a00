"""A server that is killed at any moment loses nothing that it acknowledged, and repeats nothing.

FIRMTRAIL_TEST_KILLS sets how often it is killed on SQLite; on Postgres it is half of that.
"""

import asyncio
import os
import random
import signal
from collections.abc import Collection

import pytest

from tests.databases import migrate_now
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import writer
from tests.end_to_end.site import entries
from tests.end_to_end.truth import untruths
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer

KILLS = int(os.environ.get("FIRMTRAIL_TEST_KILLS", "20"))
pytestmark = pytest.mark.timeout(900 + 15 * KILLS)  # each wait has its own, shorter limit
CRASHES = 3
WRITERS = 4


async def test_a_killed_server_on_sqlite_loses_and_repeats_nothing(
    serve: Serve, sqlite_url: str
) -> None:
    """Kills the server in turn with the process that writes for it, and alone."""
    await kill_in_mid_load(serve, sqlite_url, KILLS, alone_too=True)


async def test_killed_workers_on_sqlite_lose_and_repeat_nothing(
    serve: Serve, sqlite_url: str
) -> None:
    """Kills all processes in turn together, and only the first of them, whose workers then end."""
    await kill_in_mid_load(serve, sqlite_url, KILLS // 2, "--workers", "2", alone_too=True)


async def test_a_killed_server_on_postgres_loses_and_repeats_nothing(
    serve: Serve, postgres_url: str
) -> None:
    await kill_in_mid_load(serve, postgres_url, KILLS // 2)


async def test_a_killed_writer_process_is_started_again(serve: Serve, sqlite_url: str) -> None:
    site, writers = await ledger.new_writers(sqlite_url, WRITERS)
    server = serve(sqlite_url)
    killed = set[int]()
    async with ledger.session() as session:
        for _ in range(CRASHES):
            async with ledger.load(session, writers, server.url):
                await asyncio.sleep(random.uniform(0.3, 0.6))
                writing = await another_writer(server.pid, killed)
                os.kill(writing, signal.SIGKILL)
                killed.add(writing)
                await ledger.until_all_go_on(writers)
            assert ledger.faults(writers, await entries(session, server.url, site)) == []
        await ledger.settle(session, writers, server.url)
    assert len(killed) == CRASHES
    server.kill()
    assert await untruths(site) == []


async def another_writer(pid: int, killed: Collection[int]) -> int:
    """Waits for the process that writes for the server, and is none of those that were killed."""
    async with asyncio.timeout(PATIENCE_S):
        while (writing := writer(pid)) is None or writing in killed:
            await asyncio.sleep(0.01)
    return writing


async def test_a_crashed_postgres_loses_nothing_of_a_running_server(serve: Serve) -> None:
    with PostgresServer(durable=True) as postgres:
        database = postgres.create_database("crashing")
        migrate_now(database)
        site, writers = await ledger.new_writers(database, WRITERS)
        server = serve(database)
        async with ledger.session() as session:
            for _ in range(CRASHES):
                async with ledger.load(session, writers, server.url):
                    await asyncio.sleep(random.uniform(0.3, 0.6))
                    await asyncio.to_thread(postgres.crash)
                    if not all(writer.unavailable for writer in writers):
                        await ledger.until_refused(writers)
                    await asyncio.to_thread(postgres.start)
                    await ledger.until_all_go_on(writers)
                assert ledger.faults(writers, await entries(session, server.url, site)) == []
            await ledger.settle(session, writers, server.url)
        server.kill()
        assert await untruths(site) == []


async def kill_in_mid_load(
    serve: Serve, database: str, kills: int, *options: str, alone_too: bool = False
) -> None:
    site, writers = await ledger.new_writers(database, WRITERS)
    server = serve(database, *options)
    whole = 0
    async with ledger.session() as session:
        for turn in range(kills):
            async with ledger.load(session, writers, server.url):
                await ledger.until_all_go_on(writers)
                await asyncio.sleep(random.uniform(0, 0.5))
                if alone_too and turn % 2:
                    server.kill_alone()  # its workers may still answer what they were sent
                else:
                    server.kill()
                    whole += 1
            server.start()
            assert ledger.faults(writers, await entries(session, server.url, site)) == []
        await ledger.settle(session, writers, server.url)
    assert sum(writer.interrupted for writer in writers) > whole, "the server was not under load"
    server.kill()
    assert await untruths(site) == []

"""A rebuild that is killed at any moment is continued, and reporting devices notice nothing.

FIRMTRAIL_TEST_REBUILD_KILLS sets how often it is killed on SQLite.
"""

import asyncio
import os
import random
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path

from firmtrail.projections import fold
from tests.databases import opened, read
from tests.end_to_end import ledger
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.rebuilds import DEVICES, REPORTS, fill, rebuild_of
from tests.end_to_end.truth import untruths
from tests.patience import PATIENCE_S

KILLS = int(os.environ.get("FIRMTRAIL_TEST_REBUILD_KILLS", "3"))
WRITERS = 3
REBUILD = ("rebuild", "--project", "acme")


async def test_a_rebuild_that_is_killed_repeatedly_ends_right(
    serve: Serve, sqlite_url: str
) -> None:
    site, writers = await ledger.new_writers(sqlite_url, WRITERS, *DEVICES)
    await fill(site)
    server, socket = serve(sqlite_url), Path(f"{sqlite_url.removeprefix('sqlite:///')}.sock")
    interrupted = 0
    async with ledger.session() as session:
        while interrupted < KILLS:
            async with ledger.load(session, writers, server.url):
                if not (await rebuild_of(socket, "GET"))["views"]:
                    await rebuild_of(socket, "POST")
                await asyncio.sleep(random.uniform(0, 0.3))
                interrupted += bool((await rebuild_of(socket, "GET"))["is_running"])
                server.kill()
            server.start()
        async with ledger.load(session, writers, server.url), asyncio.timeout(PATIENCE_S):
            state = await rebuild_of(socket, "POST")
            while state["is_running"]:
                await asyncio.sleep(0.05)
                state = await rebuild_of(socket, "GET")
        await ledger.settle(session, writers, server.url)
    assert state["failure"] is None
    server.kill()
    assert await untruths(site) == []


async def test_the_server_that_has_the_file_open_rebuilds_for_the_command(
    serve: Serve, sqlite_url: str
) -> None:
    site, writers = await ledger.new_writers(sqlite_url, WRITERS, *DEVICES)
    await fill(site)
    server = serve(sqlite_url)
    async with ledger.session() as session:
        async with ledger.load(session, writers, server.url):
            done = await asyncio.to_thread(firmtrail, sqlite_url, *REBUILD, "--json")
        await ledger.settle(session, writers, server.url)
    assert (done.exit_code, sorted(done.json["views"])) == (0, sorted(fold.REVISIONS))
    assert done.json["events"] >= REPORTS
    assert [writer.unavailable + writer.interrupted for writer in writers] == [0] * WRITERS
    assert firmtrail(sqlite_url, *REBUILD, "--view", "nix").exit_code == 2
    server.kill()
    assert await untruths(site) == []


async def test_on_postgres_another_process_takes_over_from_a_killed_one(
    serve: Serve, postgres_url: str
) -> None:
    site, writers = await ledger.new_writers(postgres_url, WRITERS, *DEVICES)
    await fill(site)
    command = [sys.executable, "-m", "firmtrail", "--database", postgres_url, *REBUILD]
    server = serve(postgres_url)
    async with ledger.session() as session, ledger.load(session, writers, server.url):
        process = await asyncio.create_subprocess_exec(*command, env=ENVIRONMENT, stderr=DEVNULL)
        async with opened(postgres_url) as db, asyncio.timeout(PATIENCE_S):
            while not await read(db, "SELECT name FROM rebuilds WHERE position > 0"):
                await asyncio.sleep(0.01)
        process.kill()
        await process.wait()
        done = await asyncio.to_thread(firmtrail, postgres_url, *REBUILD)
    assert (done.exit_code, done.said.count("Error")) == (0, 0)
    assert [writer.unavailable + writer.interrupted for writer in writers] == [0] * WRITERS
    server.kill()
    assert await untruths(site) == []

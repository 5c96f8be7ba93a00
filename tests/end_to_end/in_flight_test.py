"""Checks requests in progress when the server is stopped, when the client hangs up, and when the
database makes them wait."""

import asyncio
import contextlib
import signal
import sqlite3
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientConnectorError, ClientError

from firmtrail.database.database import Statement
from tests.databases import opened
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import P, entries, get, new_site, post, post_and_hang_up
from tests.end_to_end.truth import untruths
from tests.patience import PATIENCE_S

WRITERS = 3
DEVICE = "d1"
REPORTS = f"{P}/devices/{DEVICE}/reports"
ARRIVAL_SECONDS = 0.3
"""A worker notices within a second that it has to stop."""
LOCK_SECONDS = 5
"""How long a server waits for a lock, on either back end."""


@pytest.fixture(params=[(), ("--workers", "2")], ids=["one process", "workers"])
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options for one process that takes requests, or for two."""
    chosen: tuple[str, ...] = request.param
    return chosen


async def test_a_server_stopped_under_load_keeps_what_it_acknowledged(
    serve: Serve, database_url: str, options: tuple[str, ...]
) -> None:
    site, writers = await ledger.new_writers(database_url, WRITERS)
    server = serve(database_url, *options)
    async with ledger.session() as session:
        async with ledger.load(session, writers, server.url):
            await asyncio.sleep(0.5)
            server.send(signal.SIGTERM)
            assert server.exit_code() == 0
        server.start()
        assert ledger.faults(writers, await entries(session, server.url, site)) == []
        await ledger.settle(session, writers, server.url)
    server.kill()
    assert await untruths(site) == []


async def test_a_stopping_server_answers_accepted_requests_and_accepts_no_more(
    serve: Serve, database_url: str, options: tuple[str, ...]
) -> None:
    site = await new_site(database_url, [DEVICE])
    server = serve(database_url, *options)
    url = f"{server.url}{REPORTS}"
    async with ledger.session() as session, asyncio.TaskGroup() as tasks:
        assert (await get(session, f"{server.url}/healthz")).status == 200  # a worker accepts
        async with held(database_url):
            posts = [
                tasks.create_task(
                    post(session, url, site.secrets[DEVICE], {"version": "1.0.0", "seq": seq})
                )
                for seq in range(5)
            ]
            await asyncio.sleep(ARRIVAL_SECONDS)
            server.send(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                while await accepts(server.url):
                    await asyncio.sleep(0.05)
            assert not any(task.done() for task in posts)
        assert [(await task).status for task in posts] == [201] * 5
    assert server.exit_code() == 0
    assert await untruths(site) == []


async def test_a_report_whose_sender_hung_up_is_recorded_once(
    serve: Serve, database_url: str, options: tuple[str, ...]
) -> None:
    site = await new_site(database_url, [DEVICE])
    server = serve(database_url, *options)
    url, secret = f"{server.url}{REPORTS}", site.secrets[DEVICE]
    body = {"version": "1.0.0", "report_id": "r1"}
    async with ledger.session() as session:
        assert (await get(session, f"{server.url}/healthz")).status == 200
        async with held(database_url):
            await post_and_hang_up(url, secret, body, ARRIVAL_SECONDS)
        again = await post(session, url, secret, body)
        assert (again.status, again.json["duplicate"]) == (200, True)
        log = await entries(session, server.url, site)
    assert [entry.id for entry in log if entry.id.startswith("r.")] == ["r.r1"]
    assert log[again.json["position"]].id == "r.r1"


async def test_half_a_report_records_nothing(serve: Serve, sqlite_url: str) -> None:
    site = await new_site(sqlite_url, [DEVICE])
    server = serve(sqlite_url)
    body = {"version": "1.0.0", "report_id": "r1"}
    async with ledger.session() as session:
        size = len(await entries(session, server.url, site))
        await post_and_hang_up(
            f"{server.url}{REPORTS}", site.secrets[DEVICE], body, ARRIVAL_SECONDS, without_bytes=1
        )
        assert len(await entries(session, server.url, site)) == size


async def test_a_locked_database_delays_reports_and_not_reads_of_views(
    serve: Serve, database_url: str, options: tuple[str, ...]
) -> None:
    site = await new_site(database_url, [DEVICE])
    server = serve(database_url, *options)
    url, secret = f"{server.url}{REPORTS}", site.secrets[DEVICE]
    async with ledger.session() as session, asyncio.TaskGroup() as tasks:
        assert (await get(session, f"{server.url}/healthz")).status == 200
        async with held(database_url):
            began = time.monotonic()
            write = tasks.create_task(post(session, url, secret, {"version": "1.0.0"}))
            await asyncio.sleep(ARRIVAL_SECONDS)
            for path in (f"{P}/devices/{DEVICE}", f"{P}/devices/{DEVICE}/history", f"{P}/versions"):
                assert (await get(session, f"{server.url}{path}", site.admin)).status == 200
            assert time.monotonic() - began < LOCK_SECONDS
            # a read of the log is recorded first, and a file has one lock for all logs
            log = tasks.create_task(get(session, f"{server.url}{P}/events", site.admin))
            answer = await write
            assert time.monotonic() - began < 2 * LOCK_SECONDS
            assert (await log).status == (503 if database_url.startswith("sqlite:///") else 200)
        assert (answer.status, int(answer.headers["Retry-After"]) >= 1) == (503, True)
        assert (await post(session, url, secret, {"version": "1.0.0"})).status == 201


async def accepts(url: str) -> bool:
    """Returns whether a new connection is accepted, whether a request on it is answered or not."""
    async with ledger.session() as session:
        try:
            await get(session, f"{url}/healthz")
        except ClientConnectorError:
            return False
        except ClientError:
            return True
        return True


@contextlib.asynccontextmanager
async def held(database: str) -> AsyncIterator[None]:
    """Locks the log's head in another process: no append succeeds meanwhile."""
    if database.startswith("sqlite:///"):
        with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.rollback()
    else:
        async with opened(database) as db, db.transaction() as tx:
            await tx.run(Statement("UPDATE log_heads SET size = size"))
            yield

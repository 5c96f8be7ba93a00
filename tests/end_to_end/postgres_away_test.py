"""If Postgres goes away, a running server answers 503, loses nothing, and needs no restart."""

import asyncio
import time
from collections.abc import Iterator
from itertools import count

import pytest
from aiohttp import ClientSession

from tests.databases import migrate_now, opened, read
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import frozen
from tests.end_to_end.site import P, Site, get, post
from tests.end_to_end.truth import untruths
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer

WRITERS = 3
ANSWER_SECONDS = 30
"""The longest time to an answer while the database does not answer at all."""
TERMINATIONS = 12

_TERMINATE = """\
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()"""

_numbers = count(1)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A Postgres server that these tests may stop."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_url(own_postgres: PostgresServer) -> str:
    database = own_postgres.create_database(f"away_{next(_numbers)}")
    migrate_now(database)
    return database


async def test_a_stopped_postgres_is_answered_with_503(
    serve: Serve, own_postgres: PostgresServer, own_url: str
) -> None:
    site, writers = await ledger.new_writers(own_url, WRITERS)
    server = serve(own_url)
    async with ledger.session() as session:
        async with ledger.load(session, writers, server.url):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_postgres.stop)
            await assert_unavailable(session, server.url, site)
            await asyncio.to_thread(own_postgres.start)
            await until_ready(session, server.url)
            await ledger.until_all_go_on(writers)
        await ledger.settle(session, writers, server.url)
    assert await untruths(site) == []


async def test_a_postgres_that_does_not_answer_is_answered_with_503(
    serve: Serve, own_postgres: PostgresServer, own_url: str
) -> None:
    site, writers = await ledger.new_writers(own_url, WRITERS)
    server = serve(own_url)
    async with ledger.session() as session:
        async with ledger.load(session, writers, server.url):
            await asyncio.sleep(0.5)
            with frozen(own_postgres):
                await assert_unavailable(session, server.url, site)
            await until_ready(session, server.url)
            await ledger.until_all_go_on(writers)
        await ledger.settle(session, writers, server.url)
    assert await untruths(site) == []


async def test_connections_that_are_cut_under_load_lose_nothing(
    serve: Serve, postgres_url: str
) -> None:
    site, writers = await ledger.new_writers(postgres_url, WRITERS)
    server = serve(postgres_url)
    async with ledger.session() as session, opened(postgres_url) as db:
        async with ledger.load(session, writers, server.url):
            for _ in range(TERMINATIONS):
                await asyncio.sleep(0.1)
                while not await read(db, _TERMINATE):
                    await asyncio.sleep(0.02)
        await ledger.settle(session, writers, server.url)
    assert sum(writer.unavailable for writer in writers) > 0
    assert await untruths(site) == []


async def assert_unavailable(session: ClientSession, url: str, site: Site) -> None:
    """Asserts that writes and reads are refused in bounded time; the process is alive and not
    ready."""
    device, secret = next(iter(site.secrets.items()))
    report = {"version": "1.0.0"}
    began = time.monotonic()
    writes = [post(session, f"{url}{P}/devices/{device}/reports", secret, report) for _ in range(5)]
    paths = [f"{P}/devices/{device}", f"{P}/devices", f"{P}/versions", f"{P}/events"]
    reads = [get(session, f"{url}{path}", site.admin) for path in paths]
    for answer in await asyncio.gather(*writes, *reads):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
    assert time.monotonic() - began < ANSWER_SECONDS
    assert (await get(session, f"{url}/healthz")).status == 200
    assert (await get(session, f"{url}/readyz")).status == 503
    scraped = await get(session, f"{url}/metrics")
    assert (scraped.status, b"firmtrail_devices" in scraped.body) == (200, False)


async def until_ready(session: ClientSession, url: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await get(session, f"{url}/readyz")).status != 200:
            await asyncio.sleep(0.1)

"""A failure counts as the standby's only if the standby failed, and a refused function is named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count

import asyncpg
import pytest

from firmtrail import config
from firmtrail.cli.cluster import opened_standby
from firmtrail.database import standby as standbys
from firmtrail.database.database import Statement, Unavailable
from firmtrail.database.postgres import Postgres
from firmtrail.database.standby import NotItsStandby, Standby, StandbyFailed, StandbyReading
from firmtrail.exits import CouldNotRun
from tests import postgres_server
from tests.postgres_server import PostgresServer

IS_COPY = Statement("SELECT CAST(pg_is_in_recovery() AS int)")
ROLE = "reader_of_both"
FUNCTIONS = {
    "pg_control_system()": "pg_control_system",
    "pg_last_wal_replay_lsn()": "pg_last_wal_replay_lsn",
    "pg_current_wal_flush_lsn()": "pg_current_wal_flush_lsn",
}

_numbers = count(1)


@dataclass(frozen=True)
class Pair:
    """Holds one database on a primary and on its standby, opened as a role that owns nothing."""

    owner_url: str
    url: str
    standby_url: str
    server: postgres_server.Standby
    primary: Postgres
    standby: Postgres


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[PostgresServer, postgres_server.Standby]]:
    with PostgresServer() as primary:
        asyncio.run(execute(primary.create_database("first"), f"CREATE ROLE {ROLE} LOGIN"))
        with postgres_server.Standby(primary) as standby:
            yield primary, standby


@pytest.fixture
async def pair(
    servers: tuple[PostgresServer, postgres_server.Standby],
) -> AsyncIterator[Pair]:
    primary, standby = servers
    owner_url = primary.create_database(f"pair_{next(_numbers)}")
    url = owner_url.replace("postgres@", f"{ROLE}@")
    there = url.replace(f"host={primary.folder}", f"host={standby.folder}")
    await until_replayed(owner_url, there)
    db, copy = await Postgres.open(url), await Postgres.open(f"{there}&target_session_attrs=any")
    yield Pair(owner_url, url, there, standby, db, copy)
    await db.close()
    await copy.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET synchronous_commit = on")  # the standby gets only what is flushed
    await connection.execute(statement)
    await connection.close()


async def until_replayed(url: str, there: str) -> None:
    """Waits until the standby has everything that the primary committed before."""
    admin = await asyncpg.connect(url)
    place = await admin.fetchval("SELECT CAST(pg_current_wal_flush_lsn() AS text)")
    await admin.close()
    copy = await asyncpg.connect(f"postgresql://postgres@/first?{there.partition('?')[2]}")
    text = "SELECT pg_last_wal_replay_lsn() >= CAST(CAST($1 AS text) AS pg_lsn)"
    async with asyncio.timeout(60):
        while not await copy.fetchval(text, place):
            await asyncio.sleep(0.02)
    await copy.close()


@contextlib.asynccontextmanager
async def used(pair: Pair) -> AsyncIterator[Standby]:
    """Runs a standby that answers reads."""
    chosen = Standby(pair.primary, pair.standby)
    task = asyncio.create_task(chosen.run())
    async with asyncio.timeout(60):
        while await chosen.picked() is not pair.standby:
            await asyncio.sleep(0.02)
    yield chosen
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


async def in_a_moment(reading: StandbyReading, fail: Callable[[], Awaitable[None]]) -> None:
    """Reads a moment of the standby, lets something fail, and reads again."""
    async with reading.moment() as reader:
        assert await reader.read(IS_COPY) == [(1,)]
        await fail()
        await reader.read(IS_COPY)


async def test_a_failure_of_the_primary_is_not_one_of_the_standby(pair: Pair) -> None:
    async def fail() -> None:
        raise Unavailable("the primary can't record the read")

    async with used(pair) as chosen:
        reading = chosen.reading()
        with pytest.raises(Unavailable) as raised:
            await in_a_moment(reading, fail)
        assert type(raised.value) is Unavailable
        assert await reading.read(IS_COPY) == [(1,)]
        assert await chosen.picked() is pair.standby


async def end_connections(pair: Pair) -> None:
    url = pair.standby_url.replace(f"{ROLE}@", "postgres@")
    text = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    await execute(url, text)


async def test_a_read_of_the_standby_that_fails_is_one_of_the_standby(pair: Pair) -> None:
    async with used(pair) as chosen:
        reading = chosen.reading()
        with pytest.raises(StandbyFailed):
            await in_a_moment(reading, partial(end_connections, pair))
        async with reading.moment() as reader:
            assert await reader.read(IS_COPY) == [(0,)]


async def test_two_reads_that_fail_together_are_both_answered_by_the_primary(pair: Pair) -> None:
    async with used(pair) as chosen:
        reading = chosen.reading()
        assert await reading.read(IS_COPY) == [(1,)]
        asleep = Statement("SELECT CAST(pg_is_in_recovery() AS int) FROM pg_sleep(1)")
        reads = [asyncio.create_task(reading.read(asleep)) for _ in range(2)]
        await asyncio.sleep(0.3)
        await end_connections(pair)
        assert await asyncio.gather(*reads) == [[(0,)], [(0,)]]


async def test_while_the_standby_is_down_a_moment_is_one_of_the_primary(pair: Pair) -> None:
    async with used(pair) as chosen:
        reading = chosen.reading()
        assert await reading.read(IS_COPY) == [(1,)]
        pair.server.crash()
        try:
            async with reading.moment() as reader:
                assert await reader.read(IS_COPY) == [(0,)]
        finally:
            pair.server.start()


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_that_is_refused_is_named_at_the_start(pair: Pair, function: str) -> None:
    await execute(pair.owner_url, f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    await until_replayed(pair.owner_url, pair.standby_url)
    database = config.Cluster(pair.standby_url)
    with pytest.raises(CouldNotRun, match=f"permission denied for function {FUNCTIONS[function]}"):
        async with opened_standby(database, pair.primary, "session"):
            pass


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_if_a_function_is_refused_later_the_primary_answers(
    pair: Pair, function: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with used(pair) as chosen:
        await execute(pair.owner_url, f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
        await until_replayed(pair.owner_url, pair.standby_url)
        chosen.failed("it is verified again")
        for _ in range(3):
            await asyncio.sleep(standbys.OBSERVE_S)
            assert await chosen.reading().read(IS_COPY) == [(0,)]
        await execute(pair.owner_url, f"GRANT EXECUTE ON FUNCTION {function} TO PUBLIC")
        async with asyncio.timeout(60):
            while await chosen.picked() is not pair.standby:
                await asyncio.sleep(0.02)
    said = capfd.readouterr().out
    assert said.count("the standby can't answer reads") == 1


async def test_a_request_survives_that_a_function_is_refused(pair: Pair) -> None:
    chosen = Standby(pair.primary, pair.standby)
    chosen._use(is_current=True)
    revoke = "REVOKE EXECUTE ON FUNCTION pg_current_wal_flush_lsn() FROM PUBLIC"
    await execute(pair.owner_url, revoke)
    assert await chosen.reading().read(IS_COPY) == [(0,)]


async def test_a_database_that_is_ahead_of_the_primary_is_no_standby(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a one follows another copy of the primary, that was promoted."""
    monkeypatch.setattr(standbys, "_REPLAYED", "SELECT 0, CAST(9223372036854775807 AS bigint)")
    with pytest.raises(NotItsStandby, match="has replayed more"):
        await standbys.check(pair.primary, pair.standby)

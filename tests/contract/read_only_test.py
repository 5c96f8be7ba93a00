"""A database that takes no writes is noticed, and a host that takes writes is preferred."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from firmtrail.database.database import ReadOnly, Statement
from firmtrail.database.postgres import Postgres
from firmtrail.http.health import Readiness
from firmtrail.projections.controls import Controls
from firmtrail.rebuilding.builder import Builder, Duty
from firmtrail.schema import health
from tests.databases import opened, postgres_template
from tests.end_to_end.command import firmtrail
from tests.postgres_server import PostgresServer, Standby

WRITE = Statement("INSERT INTO device_seen VALUES ('acme', 'd1', 1)")


@pytest.fixture(scope="module")
async def pair(postgres: PostgresServer) -> AsyncIterator[tuple[str, str]]:
    """The URLs of a migrated database on a primary and on its streaming standby."""
    template = postgres_template(postgres)
    with postgres.fresh_database(template) as primary, Standby(postgres) as standby:
        yield primary, primary.replace(f"host={postgres.folder}", f"host={standby.folder}")


async def test_a_standby_is_not_ready_and_says_why(pair: tuple[str, str]) -> None:
    _, standby = pair
    async with opened(standby) as db:
        found = await health.read(db)
        assert (found.has_schema, found.is_read_only) == (True, True)
        with pytest.raises(ReadOnly):
            async with db.transaction() as tx:
                await tx.run(WRITE)


async def test_doctor_and_readyz_name_a_standby(pair: tuple[str, str]) -> None:
    _, standby = pair
    done = await asyncio.to_thread(firmtrail, standby, "doctor", "--json")
    [database] = [row for row in done.json if row["check"] == "database"]
    assert (done.exit_code, database["verdict"]) == (1, "fail")
    assert "read_only" in database["found"]
    async with opened(standby) as db:
        builder = Builder(db, Duty(is_alone=False), Controls(db), lambda *_: None)
        assert await Readiness(db, builder).failures() == ["read_only"]


async def test_of_several_hosts_the_one_that_takes_writes_is_used(pair: tuple[str, str]) -> None:
    primary, standby = pair
    hosts = ",".join(parse_qs(urlsplit(url).query)["host"][0] for url in (standby, primary))
    url = f"{primary.partition('?')[0]}?host={hosts}&port=5432,5432"
    async with opened(url) as db:
        assert not (await health.read(db)).is_read_only
    async with opened(f"{url}&target_session_attrs=standby") as db:
        assert (await health.read(db)).is_read_only


async def test_a_database_that_becomes_read_only_and_writable_again_is_noticed(
    postgres_url: str,
) -> None:
    name = urlsplit(postgres_url).path[1:]
    admin = await asyncpg.connect(postgres_url)
    async with opened(postgres_url) as db:
        assert isinstance(db, Postgres)
        assert not await db.is_read_only()
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await db._pool.expire_connections()
        assert (await health.read(db)).is_read_only
        await admin.execute("SET transaction_read_only = off")
        await admin.execute(
            f"BEGIN; SET TRANSACTION READ WRITE; "
            f"ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT"
        )
        await db.is_read_only()
        assert not await db.is_read_only()
    await admin.close()

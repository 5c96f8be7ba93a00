"""A database is brought to the schema once, whole, and belongs to one instance."""

import contextlib
import sqlite3
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from firmtrail.eventstore import log
from firmtrail.eventstore.database import NoSuchTable
from firmtrail.eventstore.migrate import WrongInstance, migrate
from firmtrail.eventstore.migrations import is_at_head
from firmtrail.record import Recorder
from tests.databases import INSTANCE, new_log, opened, read
from tests.fleet import receipts, register, report
from tests.postgres_server import PostgresServer
from tests.replay import differences


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database(f"empty_{uuid4().hex}")


async def is_migrated(url: str) -> bool:
    async with opened(url) as db:
        return await is_at_head(db)


async def run_outside(url: str, text: str) -> None:
    """Run a statement as a program would that knows nothing of us."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(text)
            connection.commit()
        return
    postgres = await asyncpg.connect(url)
    await postgres.execute(text)
    await postgres.close()


async def test_an_empty_database_is_behind_and_a_migrated_one_at_head(empty_url: str) -> None:
    assert not await is_migrated(empty_url)
    await migrate(empty_url, INSTANCE)
    assert await is_migrated(empty_url)


async def test_migrating_again_changes_nothing(empty_url: str) -> None:
    await migrate(empty_url, INSTANCE)
    async with opened(empty_url) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, "d1")
    await migrate(empty_url, INSTANCE)
    async with opened(empty_url) as db:
        assert (await log.head(db, log_id)).size == 1
        assert [tuple(row) for row in await read(db, "SELECT name FROM instance")] == [(INSTANCE,)]
        assert (await receipts(Recorder(db), log_id, report()))[0].position == 1


async def test_a_database_keeps_its_instances_name(empty_url: str) -> None:
    await migrate(empty_url, "north")
    with pytest.raises(WrongInstance):
        await migrate(empty_url, "south")
    await migrate(empty_url, "north")


async def test_a_migration_that_fails_leaves_nothing(empty_url: str) -> None:
    """A table of the first migration is in the way, behind others."""
    await run_outside(empty_url, "CREATE TABLE idempotency_keys (stranger bigint)")
    with pytest.raises(SQLAlchemyError):
        await migrate(empty_url, INSTANCE)
    async with opened(empty_url) as db:
        with pytest.raises(NoSuchTable):
            await read(db, "SELECT log_id FROM log_heads")
    await run_outside(empty_url, "DROP TABLE idempotency_keys")
    await migrate(empty_url, INSTANCE)
    assert await is_migrated(empty_url)


async def test_a_database_of_the_first_schema_keeps_what_it_holds(empty_url: str) -> None:
    await migrate(empty_url, INSTANCE)
    async with opened(empty_url) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, "d1")
    for text in (
        "DROP TABLE releases",
        "DROP TABLE release_artifacts",
        "DROP TABLE rollouts",
        "DROP TABLE device_offers",
        "DROP TABLE device_asks",
        "ALTER TABLE device_history DROP COLUMN ordered",
        "DELETE FROM views WHERE name IN ('releases', 'rollouts', 'device_offers', 'device_asks')",
        "DROP TABLE rebuilds",
        "UPDATE alembic_version SET version_num = '0001'",
    ):
        await run_outside(empty_url, text)
    assert not await is_migrated(empty_url)
    await migrate(empty_url, INSTANCE)
    async with opened(empty_url) as db:
        assert (await receipts(Recorder(db), log_id, report()))[0].position == 1
        assert await differences(db, log_id) == []

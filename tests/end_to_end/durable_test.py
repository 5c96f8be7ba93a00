"""The settings that make "acknowledged means durable" true are in force where commits are made.

A test can't cut the power. It can show that SQLite writes its log through to the disk before a
commit returns (synchronous=FULL, "Write-Ahead Logging", 2.3), and that Postgres does the same
(synchronous_commit=on), whatever the cluster, the database or an earlier borrower of the connection
has set.
"""

import asyncpg

from firmtrail.database.database import Database, Row, Statement
from firmtrail.database.postgres import CONNECTIONS_MAX
from tests.databases import opened

FULL = 2


async def test_sqlite_writes_through_before_a_commit_returns(sqlite_url: str) -> None:
    async with opened(sqlite_url) as db:
        assert await in_transaction(db, "PRAGMA synchronous") == [(FULL,)]
        assert await in_transaction(db, "PRAGMA journal_mode") == [("wal",)]


async def test_postgres_writes_through_whatever_its_defaults_are(postgres_url: str) -> None:
    name = postgres_url.removeprefix("postgresql://postgres@/").partition("?")[0]
    plain = await asyncpg.connect(postgres_url)
    assert await plain.fetchval("SHOW synchronous_commit") == "off", "the test shows nothing"
    await plain.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await plain.close()
    async with opened(postgres_url) as db:
        for _ in range(2 * CONNECTIONS_MAX):
            [[setting]] = await in_transaction(db, "SHOW synchronous_commit")
            assert setting == "on"
            await in_transaction(db, "SET synchronous_commit = off")


async def in_transaction(db: Database, text: str) -> list[Row]:
    async with db.transaction() as tx:
        [rows] = await tx.run(Statement(text))
        return rows

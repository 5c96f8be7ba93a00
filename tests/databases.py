"""Databases for tests: fresh ones, migrated once and copied."""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from firmtrail.database.database import Database, Row, Statement, Value
from firmtrail.database.postgres import Postgres
from firmtrail.database.sqlite import SQLite
from firmtrail.recording.recorder import start_log
from firmtrail.schema.migrate import migrate
from tests.crossing import Crossing
from tests.postgres_server import PostgresServer

INSTANCE = "firmtrail"


def migrate_now(url: str) -> None:
    """Migrate from where a loop may be running already."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, migrate(url, INSTANCE)).result()


@functools.cache
def sqlite_template() -> bytes:
    """A migrated and empty database, as its file's bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        migrate_now(f"sqlite:///{path}")
        return path.read_bytes()


@functools.cache
def postgres_template(server: PostgresServer) -> str:
    """The name of a migrated and empty database of the server that nobody is connected to."""
    migrate_now(server.create_database("migrated"))
    return "migrated"


async def open_database(url: str) -> SQLite | Postgres:
    if url.startswith("sqlite:///"):
        embedded = await SQLite.open(Path(url.removeprefix("sqlite:///")))
        embedded._writer = Crossing(embedded._writer)
        return embedded
    return await Postgres.open(url)


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[SQLite | Postgres]:
    db = await open_database(url)
    try:
        yield db
    finally:
        await db.close()


async def new_log(db: Database, project: str = "acme") -> int:
    async with db.transaction() as tx:
        return await start_log(tx, project)


async def read(db: Database, text: str, *args: Value) -> list[Row]:
    return await db.read(Statement(text, args))


async def raw(db: SQLite, text: str, *args: Value) -> list[Any]:
    """Run on the writing connection what is no statement of a service: a PRAGMA, say."""
    return await db._writer.send(_raw, text, args)


def _raw(connection: sqlite3.Connection, text: str, args: Sequence[Value]) -> list[Any]:
    return connection.execute(text, args).fetchall()


async def write(db: Database, text: str, *args: Value) -> None:
    """Run one statement in a transaction of its own."""
    async with db.transaction() as tx:
        await tx.run(Statement(text, args))

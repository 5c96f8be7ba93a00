"""Makes databases for tests: each is a fresh copy of one that was migrated, and filled, once."""

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg

from firmtrail import config
from firmtrail.cli.back_ends import back_end
from firmtrail.database.database import Database, Row, Statement, Value
from firmtrail.database.migrating import Migrating
from firmtrail.database.postgres import Postgres
from firmtrail.database.sqlite import SQLite
from firmtrail.recording.recorder import start_log
from firmtrail.schema.migrate import migrate
from tests.crossing import Crossing
from tests.postgres_server import PostgresServer

INSTANCE = "firmtrail"

type Fill = Callable[[Database], Awaitable[Any]]
"""Fills a migrated and empty database; what it returns is the same for each test on a copy."""

type Make = Callable[[str], Coroutine[Any, Any, Any]]
"""Makes all of a database from the URL of a PostgreSQL without any table, and returns likewise."""


async def with_nothing(_db: Database) -> None:
    """Leaves a database migrated and empty."""


def migrate_now(url: str) -> None:
    """Migrates; can be called while an event loop runs."""
    _run_now(migrate(migrating(url), INSTANCE))


def _run_now[Result](work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it in an event loop of its own; can be called while another one runs."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def migrating(url: str) -> Migrating:
    """Returns how a migration changes the database at this URL."""
    return back_end(config.database(url)).migrating()


@functools.cache
def sqlite_template() -> bytes:
    """Returns the bytes of a migrated and empty database file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        migrate_now(f"sqlite:///{path}")
        return path.read_bytes()


@functools.cache
def postgres_template(server: PostgresServer) -> str:
    """Returns the name of a migrated and empty database that no client is connected to."""
    migrate_now(server.create_database("migrated"))
    return "migrated"


@functools.cache
def sqlite_filled(fill: Fill) -> tuple[bytes, Any]:
    """Returns the bytes of a database file that was filled, and what `fill` returned."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        path.write_bytes(sqlite_template())
        made = _run_now(_filled(f"sqlite:///{path}", fill))
        return path.read_bytes(), made


@functools.cache
def postgres_filled(server: PostgresServer, fill: Fill) -> tuple[str, Any]:
    """Returns the name of a database that was filled and that no client is connected to, and what
    `fill` returned."""
    name = fill.__name__
    url = server.create_database(name, postgres_template(server))
    return name, _run_now(_filled(url, fill))


@functools.cache
def _postgres_made(server: PostgresServer, make: Make) -> tuple[str, Any]:
    name = f"{make.__module__}.{make.__name__}"
    return name, _run_now(make(server.create_database(name)))


@contextlib.contextmanager
def postgres_copy(server: PostgresServer, make: Make) -> Iterator[tuple[str, Any]]:
    """Gives a fresh copy of a database that `make` made once, and what `make` returned."""
    template, made = _postgres_made(server, make)
    with server.fresh_database(template) as url:
        yield url, made


async def _filled(url: str, fill: Fill) -> Any:
    async with opened(url) as db:
        return await fill(db)


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
    """Runs a text on the writing connection that is no statement of the service, such as a
    PRAGMA."""
    return await db._writer.send(_raw, text, args)


def _raw(connection: sqlite3.Connection, text: str, args: Sequence[Value]) -> list[Any]:
    return connection.execute(text, args).fetchall()


async def write(db: Database, text: str, *args: Value) -> None:
    """Runs one statement in its own transaction."""
    async with db.transaction() as tx:
        await tx.run(Statement(text, args))


async def create_role(url: str, role: str) -> None:
    """Lets the server of a Postgres database have this role; it may log in, and no more."""
    connection = await asyncpg.connect(url)
    if not await connection.fetch("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f"CREATE ROLE {role} LOGIN")
    await connection.close()

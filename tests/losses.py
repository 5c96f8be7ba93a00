"""Damages a log so that it differs from what was published, without any product code."""

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path

import asyncpg

from firmtrail.eventstore import log, merkle
from tests.databases import opened, postgres_template, sqlite_template
from tests.postgres_server import PostgresServer

_numbers = count(1)


class Place:
    """Creates and copies databases of one back end."""

    def __init__(self, folder: Path, postgres: PostgresServer | None) -> None:
        self._folder = folder
        self._postgres = postgres

    def empty(self) -> str:
        """Returns the URL of a new database, migrated and empty."""
        if self._postgres is None:
            path = self._folder / f"empty-{next(_numbers)}.db"
            path.write_bytes(sqlite_template())
            return f"sqlite:///{path}"
        template = postgres_template(self._postgres)
        return self._postgres.create_database(f"empty_{next(_numbers)}", template=template)

    def copy(self, url: str) -> str:
        """Returns the URL of a copy of a database, which must not be open."""
        if self._postgres is None:
            copied = self._folder / f"copy-{next(_numbers)}.db"
            shutil.copyfile(url.removeprefix("sqlite:///"), copied)
            return f"sqlite:///{copied}"
        name = url.partition("?")[0].rpartition("/")[2]
        return self._postgres.create_database(f"copy_{next(_numbers)}", template=name)


@contextlib.asynccontextmanager
async def owned(url: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Runs statements as the database's owner, with all triggers disabled."""
    if url.startswith("sqlite:///"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            for [trigger] in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                connection.execute(f"DROP TRIGGER {trigger}")

            async def run(text: str) -> None:
                connection.execute(text)

            yield run
            connection.commit()
        return
    postgres = await asyncpg.connect(url)
    for table in ("events", "identities", "subtrees", "checkpoints"):
        await postgres.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")

    async def execute(text: str) -> None:
        await postgres.execute(text)

    yield execute
    await postgres.close()


async def delete_tail(url: str, log_id: int, size: int) -> None:
    """Deletes the events from `size` on with every trace of them, and makes the head fit."""
    async with opened(url) as db:
        texts = [text async for page in log.read(db, log_id, 0, size) for _, _, text in page]
    leaves = [merkle.leaf_hash(text.encode()) for text in texts]
    frontier = merkle.to_text(merkle.extend((), 0, leaves).frontier)
    async with owned(url) as run:
        await run(f"DELETE FROM events WHERE log_id = {log_id} AND position >= {size}")
        if not url.startswith("sqlite"):
            await run(f"DELETE FROM identities WHERE log_id = {log_id} AND position >= {size}")
        await run(f"DELETE FROM checkpoints WHERE log_id = {log_id} AND size > {size}")
        for view in ("device_history", "fleet_moves"):
            await run(f"DELETE FROM {view} WHERE log_id = {log_id} AND position >= {size}")
        await run(
            f"UPDATE log_heads SET size = {size}, frontier = '{frontier}' WHERE log_id = {log_id}"
        )


async def delete_events(url: str, log_id: int, size: int) -> None:
    """Deletes the events from `size` on, and leaves everything else as it is."""
    async with owned(url) as run:
        await run(f"DELETE FROM events WHERE log_id = {log_id} AND position >= {size}")

"""Ways in which a log stops being what was published of it, without any of our code's doing."""

import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path

import asyncpg

from firmtrail.eventstore import log, merkle
from tests.databases import opened
from tests.postgres_server import PostgresServer

_numbers = count(1)


class Place:
    """Where databases of one back end lie; a copy is as good as the original."""

    def __init__(self, postgres: PostgresServer | None) -> None:
        self._postgres = postgres

    def copy(self, url: str) -> str:
        """A copy of a database that nobody has open."""
        if self._postgres is None:
            path = Path(url.removeprefix("sqlite:///"))
            copied = path.with_name(f"copy-{next(_numbers)}-{path.name}")
            shutil.copyfile(path, copied)
            return f"sqlite:///{copied}"
        return self._postgres.create_database(
            f"copy_{next(_numbers)}", template=url.rpartition("/")[2].partition("?")[0]
        )


@contextlib.asynccontextmanager
async def owned(url: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Runs statements as the database's owner, whom no trigger stops any more."""
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
    for table in ("events", "subtrees", "checkpoints"):
        await postgres.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")

    async def execute(text: str) -> None:
        await postgres.execute(text)

    yield execute
    await postgres.close()


async def delete_tail(url: str, log_id: int, size: int) -> None:
    """Delete the events from `size` on, and make the head fit; checkpoints too."""
    async with opened(url) as db:
        texts = [text async for page in log.read(db, log_id, 0, size) for _, _, text in page]
    leaves = [merkle.leaf_hash(text.encode()) for text in texts]
    frontier = merkle.to_text(merkle.extend((), 0, leaves).frontier)
    async with owned(url) as run:
        await run(f"DELETE FROM events WHERE log_id = {log_id} AND position >= {size}")
        await run(f"DELETE FROM checkpoints WHERE log_id = {log_id} AND size > {size}")
        await run(
            f"UPDATE log_heads SET size = {size}, frontier = '{frontier}' WHERE log_id = {log_id}"
        )


async def delete_events(url: str, log_id: int, size: int) -> None:
    """Delete the events from `size` on, and leave everything else as it is."""
    async with owned(url) as run:
        await run(f"DELETE FROM events WHERE log_id = {log_id} AND position >= {size}")

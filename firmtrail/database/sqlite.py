"""The embedded back end: one file, one writing connection, readers that can only read.

SQLite before 3.51.3 (3.50.7, 3.44.6) can lose a committed transaction when two connections commit
or checkpoint at the same instant (the WAL-reset bug), and Python often links an older one. So
exactly one connection writes and checkpoints, every other is opened `mode=ro`, and an OS lock on
`FILE.lock` keeps a second writing process out.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import IO

from firmtrail.database import files, held_file
from firmtrail.database import sqlite_connection as on
from firmtrail.database.database import Row, Script, Statement, Unavailable
from firmtrail.database.sqlite_writer import Apart, InThread, Writer

VERSION = sqlite3.sqlite_version_info
"""Of the SQLite that this process is linked with."""

READERS = 3

HELD_S_MAX = 3.0
HELD_TRY_EVERY_S = 0.02

SCRUB_TRIES = 20
SCRUB_EVERY_S = 0.1

_FIRST = Statement("SELECT count(*) FROM sqlite_schema LIMIT 1")
"""A read transaction's snapshot is taken by its first read."""


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Returns whether this SQLite can lose a commit to a second writer or checkpointer."""
    if version >= (3, 51, 3):
        return False
    fixed_in = {(3, 50): 7, (3, 44): 6}
    return version[2] < fixed_in.get(version[:2], 1 << 31)


class SQLite:
    """A database file, held for writing by this process until `close`."""

    plays_in_turn = True

    def __init__(
        self,
        path: Path,
        lifetime: contextlib.AsyncExitStack,
        writer: Writer,
        readers: list[InThread],
    ) -> None:
        self._path = path
        self._lifetime = lifetime
        self._writer = writer
        self._writing = asyncio.Lock()
        self._readers: asyncio.Queue[InThread] = asyncio.Queue()
        for reader in readers:
            self._readers.put_nowait(reader)

    @classmethod
    async def open(
        cls, path: Path, clock: Callable[[], float] = time.time, *, apart: Sequence[str] = ()
    ) -> "SQLite":
        """Take the file's lock and open it, creating it where there is none.

        With `apart`, the modules of the scripts that will be played, a process of its own writes
        it. Raises `held_file.Locked` when another process has it, `Unavailable` when it is no
        database.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            lock = stack.enter_context(await _held(path, HELD_S_MAX if apart else 0))
            _create_private(path)
            writer: Writer
            if apart:
                writer = Apart(path, lock, apart)
                stack.push_async_callback(writer.close)
                await writer.ready()
            else:
                writer = await InThread.open(path, clock, writes=True)
                stack.push_async_callback(writer.close)
            readers = [await _reader(stack, path, clock) for _ in range(READERS)]
            return cls(path, stack.pop_all(), writer, readers)

    @classmethod
    async def open_to_read(cls, path: Path) -> "SQLite":
        """Open a file that another process may hold: what would write raises `Unavailable`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            writer, reader = await _reader(stack, path), await _reader(stack, path)
            return cls(path, stack.pop_all(), writer, [reader])

    async def read(self, statement: Statement) -> list[Row]:
        reader = await self._readers.get()
        try:
            return await reader.send(on.select, statement)
        finally:
            self._readers.put_nowait(reader)

    async def is_read_only(self) -> bool:
        return not os.access(self._path, os.W_OK)

    @contextlib.asynccontextmanager
    async def moment(self) -> AsyncIterator["SQLiteSnapshot"]:
        reader = await self._readers.get()
        try:
            await reader.send(on.run_all, (Statement("BEGIN"), _FIRST))
            yield SQLiteSnapshot(reader)
        finally:
            try:
                await asyncio.shield(reader.send(on.roll_back))
            finally:
                self._readers.put_nowait(reader)  # what it runs next comes after the end

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["SQLiteSnapshot"]:
        """On a connection of its own: other readers may read in parallel."""
        async with contextlib.AsyncExitStack() as stack:
            with _errors_of_opening(self._path):
                reader = await _reader(stack, self._path)
                await reader.send(on.run_all, (Statement("BEGIN"), _FIRST))
            yield SQLiteSnapshot(reader)

    async def play[Result](self, make: Callable[..., Script[Result]], *args: object) -> Result:
        """Scripts queue up at the writer, and one begins when the one before it ends: a busy event
        loop would take milliseconds to send the next."""
        sent_at_s = monotonic()
        async with self._ready_to_write():
            playing: Awaitable[Result] = self._writer.send(on.play, sent_at_s, make, *args)
        return await playing

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["SQLiteTransaction"]:
        sent_at_s = monotonic()
        async with self._ready_to_write():
            transaction = SQLiteTransaction(self._writer, sent_at_s)
            try:
                yield transaction
                await transaction.commit()
            except BaseException:
                with contextlib.suppress(Unavailable):  # it ended, and its transaction with it
                    await asyncio.shield(self._writer.send(on.roll_back))
                raise

    @contextlib.asynccontextmanager
    async def _ready_to_write(self) -> AsyncIterator[None]:
        async with self._writing:
            with _errors_of_opening(self._path):
                await self._writer.ready()
            yield

    async def scrub(self) -> bool:
        for _ in range(SCRUB_TRIES):
            async with self._ready_to_write():
                if await self._writer.send(on.truncate_wal):
                    return True
            await asyncio.sleep(SCRUB_EVERY_S)
        return False

    async def close(self) -> None:
        async with self._writing:
            await self._lifetime.aclose()  # the lock last


class SQLiteSnapshot:
    """Reads on one connection, in one read transaction."""

    def __init__(self, reader: Writer) -> None:
        self._reader = reader

    async def read(self, statement: Statement) -> list[Row]:
        return await self._reader.send(on.select, statement)


class SQLiteTransaction:
    """Begins with its first statement, so an empty one costs nothing."""

    def __init__(self, writer: Writer, sent_at_s: float) -> None:
        self._writer = writer
        self._sent_at_s = sent_at_s
        self._begun = False

    async def run(self, *statements: Statement) -> list[list[Row]]:
        if self._begun:
            return await self._writer.send(on.run_all, statements)
        self._begun = True
        return await self._writer.send(on.run_first, statements, self._sent_at_s)

    async def commit(self) -> None:
        if self._begun:
            await self._writer.send(on.commit)


async def _held(path: Path, wait_s: float) -> IO[bytes]:
    """Returns the file's lock. A server that was killed may have left a commit that is about to
    end."""
    last_try_at_s = monotonic() + wait_s
    while True:
        try:
            return held_file.take(path)
        except held_file.Locked:
            if monotonic() >= last_try_at_s:
                raise
            await asyncio.sleep(HELD_TRY_EVERY_S)


def _create_private(path: Path) -> None:
    """SQLite would let everybody read a file that holds addresses and password hashes.

    It follows links, so what it would write to is looked at first. Raises `files.NotOurs`.
    """
    files.check_trusted(path)
    for suffix in ("-wal", "-shm", "-journal"):
        files.check_no_link(path.with_name(f"{path.name}{suffix}"))
    path.touch(mode=files.PRIVATE)


@contextlib.contextmanager
def _errors_of_opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path}: {error}") from error


async def _reader(
    stack: contextlib.AsyncExitStack, path: Path, clock: Callable[[], float] = time.time
) -> InThread:
    reader = await InThread.open(path, clock, writes=False)
    stack.push_async_callback(reader.close)
    return reader

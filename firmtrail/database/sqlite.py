"""Runs on SQLite, the embedded back end: one file, one writing connection, read-only readers.

SQLite before 3.51.3 (3.50.7, 3.44.6) can lose a committed transaction when two connections commit
or checkpoint at the same instant (the WAL-reset bug), and Python often links an older one. So
exactly one connection writes and checkpoints, every other one is opened `mode=ro`, and an OS lock
on `FILE.lock` keeps a second writing process out. The processes of one server share that one
connection, and the lock (`sqlite_door`).
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

from firmtrail.database import file_lock, files, sqlite_connection, stubs
from firmtrail.database.database import Connections, Row, Script, Statement, Unavailable
from firmtrail.database.entry_archive import EntryArchive
from firmtrail.database.migrating import Migrating
from firmtrail.database.sqlite_door import Entrance, OwnProcess, SharedProcess
from firmtrail.database.sqlite_writer import CLOSED, ProcessConnection, ThreadConnection, Writer

VERSION = sqlite3.sqlite_version_info
"""The version of the SQLite that this process is linked with."""

READERS = 3

LOCK_WAIT_S_MAX = 3.0
LOCK_TRY_EVERY_S = 0.02

SCRUB_TRIES = 20
SCRUB_EVERY_S = 0.1

_FIRST = Statement("SELECT count(*) FROM sqlite_schema LIMIT 1")
"""Makes a read transaction take its snapshot, which its first read does."""


def migrating(path: Path) -> Migrating:
    """Returns how a migration changes this file. With autocommit=False all of it is one
    transaction: otherwise sqlite3 commits each CREATE TABLE on its own."""
    options = {"connect_args": {"autocommit": False}}
    return Migrating("sqlite+aiosqlite", str(path), options, is_alone=True)


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Returns whether this SQLite can lose a commit to a second writer or checkpointer."""
    if version >= (3, 51, 3):
        return False
    fixed_in = {(3, 50): 7, (3, 44): 6}
    return version[2] < fixed_in.get(version[:2], 1 << 31)


class SQLite:
    """Keeps a database file open until `close`, and locked so that only this server writes it."""

    plays_in_turn = True

    def __init__(
        self,
        path: Path,
        lifetime: contextlib.AsyncExitStack,
        writer: Writer,
        readers: list[ThreadConnection],
    ) -> None:
        self.archive: EntryArchive | None = None
        self._path = path
        self._lifetime = lifetime
        self._writer = writer
        self._writing = asyncio.Lock()
        self._is_closed = False
        self._readers: asyncio.Queue[ThreadConnection] = asyncio.Queue()
        self._reader_count = len(readers)
        for reader in readers:
            self._readers.put_nowait(reader)

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Callable[[], float] = time.time,
        *,
        script_modules: Sequence[str] = (),
    ) -> "SQLite":
        """Locks and opens the file, and creates it where there is none.

        With `script_modules`, which name the modules of the scripts to run, a separate process
        writes the file. Raises `file_lock.Locked` when another process has it open for writing,
        `Unavailable` when it is not a database.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            lock = stack.enter_context(
                await _lock_file(path, LOCK_WAIT_S_MAX if script_modules else 0)
            )
            _create_private(path)
            writer: Writer
            if script_modules:
                writer = await _entered(stack, OwnProcess(path, lock, script_modules))
            else:
                writer = await ThreadConnection.open(path, clock, writes=True)
                stack.push_async_callback(writer.close)
            readers = [await _reader(stack, path, clock) for _ in range(READERS)]
            return cls(path, stack.pop_all(), writer, readers)

    @classmethod
    async def open_shared(cls, path: Path, process: SharedProcess) -> "SQLite":
        """Opens a file that this process shares with those that it was forked with: all write by
        the same process. Raises `Unavailable`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            writer = await _entered(stack, process)
            readers = [await _reader(stack, path) for _ in range(READERS)]
            return cls(path, stack.pop_all(), writer, readers)

    @classmethod
    async def open_read_only(cls, path: Path) -> "SQLite":
        """Opens a file that another process may be writing. Every write raises `Unavailable`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            writer, reader = await _reader(stack, path), await _reader(stack, path)
            return cls(path, stack.pop_all(), writer, [reader])

    @property
    def connections(self) -> Connections:
        readers = self._reader_count
        return Connections(readers + 1, readers - self._readers.qsize() + self._writing.locked())

    async def read(self, statement: Statement) -> list[Row]:
        reader = await self._readers.get()
        try:
            rows = await reader.send(sqlite_connection.select, statement)
        finally:
            self._readers.put_nowait(reader)
        return await stubs.restored(rows, statement, self.archive)

    async def is_read_only(self) -> bool:
        return not os.access(self._path, os.W_OK)

    @contextlib.asynccontextmanager
    async def moment(self) -> AsyncIterator["SQLiteSnapshot"]:
        reader = await self._readers.get()
        try:
            await reader.send(sqlite_connection.run_all, (Statement("BEGIN"), _FIRST))
            yield SQLiteSnapshot(reader, self.archive)
        finally:
            try:
                await asyncio.shield(reader.send(sqlite_connection.roll_back))
            except Unavailable:
                if not self._is_closed:  # closing the file has ended the transaction
                    raise
            finally:
                self._readers.put_nowait(reader)  # its next statement is sent after the ROLLBACK

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["SQLiteSnapshot"]:
        """Uses its own connection, so it blocks no other reader."""
        if self._is_closed:
            raise Unavailable(CLOSED)
        async with contextlib.AsyncExitStack() as stack:
            with _errors_of_opening(self._path):
                reader = await _reader(stack, self._path)
                await reader.send(sqlite_connection.run_all, (Statement("BEGIN"), _FIRST))
            yield SQLiteSnapshot(reader, self.archive)

    async def play[Result](self, make: Callable[..., Script[Result]], *args: object) -> Result:
        """Queues the script at the writer, where it begins as soon as the one before it ends. A
        busy event loop would take milliseconds to send the next one."""
        sent_at_s = monotonic()
        async with self._ready_to_write():
            playing: Awaitable[Result] = self._writer.send(
                sqlite_connection.play, sent_at_s, make, *args
            )
        return await playing

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["SQLiteTransaction"]:
        sent_at_s = monotonic()
        async with self._ready_to_write():
            transaction = SQLiteTransaction(self._writer, sent_at_s, self.archive)
            try:
                yield transaction
                await transaction.commit()
            except BaseException:
                with contextlib.suppress(
                    Unavailable
                ):  # the process ended, and its transaction with it
                    await asyncio.shield(self._writer.send(sqlite_connection.roll_back))
                raise

    @contextlib.asynccontextmanager
    async def _ready_to_write(self) -> AsyncIterator[None]:
        async with self._writing:
            with _errors_of_opening(self._path):
                await self._writer.ready()
            yield

    async def allow_pruning(self) -> None:
        async with self._ready_to_write():
            await self._writer.send(sqlite_connection.allow_pruning)

    async def scrub(self) -> bool:
        for _ in range(SCRUB_TRIES):
            async with self._ready_to_write():
                if await self._writer.send(sqlite_connection.truncate_wal):
                    return True
            await asyncio.sleep(SCRUB_EVERY_S)
        return False

    async def close(self) -> None:
        self._is_closed = True
        async with self._writing:
            await self._lifetime.aclose()  # releases the lock last


class SQLiteSnapshot:
    """Reads on one connection, in one read transaction."""

    def __init__(self, reader: Writer, archive: EntryArchive | None) -> None:
        self._reader = reader
        self._archive = archive

    async def read(self, statement: Statement) -> list[Row]:
        rows = await self._reader.send(sqlite_connection.select, statement)
        return await stubs.restored(rows, statement, self._archive)


class SQLiteTransaction:
    """Begins with its first statement, so a transaction without statements costs nothing."""

    def __init__(self, writer: Writer, sent_at_s: float, archive: EntryArchive | None) -> None:
        self._writer = writer
        self._sent_at_s = sent_at_s
        self._archive = archive
        self._begun = False

    async def run(self, *statements: Statement) -> list[list[Row]]:
        return await stubs.all_restored(await self._run(statements), statements, self._archive)

    async def _run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        if self._begun:
            return await self._writer.send(sqlite_connection.run_all, statements)
        self._begun = True
        return await self._writer.send(sqlite_connection.run_first, statements, self._sent_at_s)

    async def commit(self) -> None:
        if self._begun:
            await self._writer.send(sqlite_connection.commit)


async def share(path: Path, script_modules: Sequence[str]) -> SharedProcess:
    """Locks the file, creates it where there is none, and starts the process that writes it for
    this process and those that are forked from it. Raises `file_lock.Locked`."""
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(await _lock_file(path, LOCK_WAIT_S_MAX))
        _create_private(path)
        process = SharedProcess(path, lock, script_modules)
        process.keep_running()
        stack.pop_all()
        return process


async def _entered(stack: contextlib.AsyncExitStack, entrance: Entrance) -> ProcessConnection:
    writer = ProcessConnection(entrance)
    stack.push_async_callback(writer.close)
    await writer.ready()
    return writer


async def _lock_file(path: Path, wait_s: float) -> IO[bytes]:
    """Returns the file's lock. Waits for it up to `wait_s`: a killed server's writer may still be
    finishing a commit."""
    last_try_at_s = monotonic() + wait_s
    while True:
        try:
            return file_lock.acquire(path)
        except file_lock.Locked:
            if monotonic() >= last_try_at_s:
                raise
            await asyncio.sleep(LOCK_TRY_EVERY_S)


def _create_private(path: Path) -> None:
    """Creates the file for its owner only: it contains addresses and password hashes. SQLite
    follows links, so the files that it would write to are checked. Raises `files.NotOurs`."""
    files.check_trusted(path)
    for suffix in ("-wal", "-shm", "-journal"):
        files.check_not_link(path.with_name(f"{path.name}{suffix}"))
    path.touch(mode=files.PRIVATE)


@contextlib.contextmanager
def _errors_of_opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path}: {error}") from error


async def _reader(
    stack: contextlib.AsyncExitStack, path: Path, clock: Callable[[], float] = time.time
) -> ThreadConnection:
    reader = await ThreadConnection.open(path, clock, writes=False)
    stack.push_async_callback(reader.close)
    return reader

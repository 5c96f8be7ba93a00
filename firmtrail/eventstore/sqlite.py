"""The embedded back end: one file, one writing connection, readers that can only read.

SQLite before 3.51.3 (3.50.7, 3.44.6) can lose a committed transaction when two connections commit
or checkpoint at the same instant (the WAL-reset bug), and Python often links an older one. So
exactly one connection writes and checkpoints, every other is opened `mode=ro`, and an OS lock on
`FILE.lock` keeps a second writing process out.

A commit is durable when it returns: WAL with synchronous=FULL (SQLite's "Write-Ahead Logging",
section 2.3: NORMAL would lose the last commits with the power).

Why rows go in by the hundred and come out as one JSON text: the `sqlite3` module gives up the GIL
around every row it steps to, and takes it back against a busy event loop. Fifty rows are fifty
such waits, one statement is one. Measured with the loop busy: 39 rows/s by `executemany`.
"""

import asyncio
import contextlib
import functools
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from itertools import batched, chain, repeat
from pathlib import Path
from time import monotonic
from typing import cast

import aiosqlite
import msgspec

from firmtrail.eventstore import held_file
from firmtrail.eventstore.database import (
    Contended,
    NoSuchTable,
    OutcomeUnknown,
    Row,
    Script,
    Statement,
    Unavailable,
    Value,
)

VERSION = sqlite3.sqlite_version_info
"""Of the SQLite that this process is linked with."""

READERS = 3
WRITER_CACHE_KIB = 64 * 1024
READER_CACHE_KIB = 16 * 1024
WAL_CHECKPOINT_PAGES = 16_000
"""Between checkpoints, a page that many commits change is written to the file once."""

GIVEN_ROWS = (1, 4, 16, 64, 128, 256, 512)
"""For how many rows of `given` a statement is prepared; what it has too many stays unread."""

BUSY_TIMEOUT_MS = 5_000
"""How long a write waits for another program that has the file locked, from when it was sent: what
waits behind others here has waited with them."""
BUSY_NOTICED_MS = 100
"""Less than that is not subtracted, which would take a statement."""
WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024

_FIRST = Statement("SELECT count(*) FROM sqlite_schema LIMIT 1")
"""A read transaction's snapshot is taken by its first read."""

_UNAVAILABLE_CODES = frozenset(
    {
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite can lose a commit to a second writer or checkpointer."""
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
        writer: aiosqlite.Connection,
        readers: list[aiosqlite.Connection],
    ) -> None:
        self._path = path
        self._lifetime = lifetime
        self._writer = writer
        self._writing = asyncio.Lock()
        self._readers: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        for reader in readers:
            self._readers.put_nowait(reader)

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], float] = time.time) -> "SQLite":
        """Take the file's lock and open it, creating it where there is none.

        Raises `held_file.Locked` when another process has it, `Unavailable` when it is no database.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            stack.enter_context(held_file.take(path))
            _create_private(path)
            writer = await stack.enter_async_context(_writer(path))
            readers = [await stack.enter_async_context(_reader(path)) for _ in range(READERS)]
            for connection in (writer, *readers):
                await connection.create_function("now_ms", 0, lambda: int(clock() * 1000))
            return cls(path, stack.pop_all(), writer, readers)

    @classmethod
    async def open_to_read(cls, path: Path) -> "SQLite":
        """Open a file that another process may hold: what would write raises `Unavailable`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_errors_of_opening(path))
            writer = await stack.enter_async_context(_reader(path))
            reader = await stack.enter_async_context(_reader(path))
            return cls(path, stack.pop_all(), writer, [reader])

    async def read(self, statement: Statement) -> list[Row]:
        reader = await self._readers.get()
        try:
            return await _run(reader, _select, statement)
        finally:
            self._readers.put_nowait(reader)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["SQLiteSnapshot"]:
        """On a connection of its own: whoever holds a snapshot may go on reading beside it."""
        async with contextlib.AsyncExitStack() as stack:
            with _errors_of_opening(self._path):
                reader = await stack.enter_async_context(_reader(self._path))
                await _run(reader, _run_all, (Statement("BEGIN"), _FIRST))
            yield SQLiteSnapshot(reader)

    async def play[Result](self, script: Script[Result]) -> Result:
        """Scripts queue up on the writer's thread, and one begins when the one before it ends: a
        busy event loop would take milliseconds to send the next."""
        sent_at_s = monotonic()
        async with self._writing:
            work: Coroutine[None, None, Result] = _run(self._writer, _play, script, sent_at_s)
            loop = asyncio.get_running_loop()
            playing = asyncio.Task(work, loop=loop, eager_start=True)
        return await playing

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["SQLiteTransaction"]:
        sent_at_s = monotonic()
        async with self._writing:
            transaction = SQLiteTransaction(self._writer, sent_at_s)
            try:
                yield transaction
                await transaction.commit()
            except BaseException:
                await asyncio.shield(_run(self._writer, _roll_back))
                raise

    async def close(self) -> None:
        async with self._writing:
            await self._lifetime.aclose()  # the lock last


class SQLiteSnapshot:
    """Reads on one connection, in one read transaction."""

    def __init__(self, reader: aiosqlite.Connection) -> None:
        self._reader = reader

    async def read(self, statement: Statement) -> list[Row]:
        return await _run(self._reader, _select, statement)


class SQLiteTransaction:
    """Begins with its first statement, so an empty one costs nothing."""

    def __init__(self, writer: aiosqlite.Connection, sent_at_s: float) -> None:
        self._writer = writer
        self._sent_at_s = sent_at_s
        self._begun = False

    async def run(self, *statements: Statement) -> list[list[Row]]:
        if self._begun:
            return await _run(self._writer, _run_all, statements)
        self._begun = True
        return await _run(self._writer, _run_first, statements, self._sent_at_s)

    async def commit(self) -> None:
        if self._begun:
            await _run(self._writer, _commit)


def _create_private(path: Path) -> None:
    """SQLite would let everybody read a file that holds addresses and password hashes."""
    path.touch(mode=0o600)


@contextlib.contextmanager
def _errors_of_opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{path}: {error}") from error


@contextlib.asynccontextmanager
async def _writer(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(path, isolation_level=None, cached_statements=512) as writer:
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "recursive_triggers=ON",
            "secure_delete=ON",  # an erased text's bytes are zeroed, not only given free
            "trusted_schema=OFF",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            f"cache_size=-{WRITER_CACHE_KIB}",
            f"wal_autocheckpoint={WAL_CHECKPOINT_PAGES}",
            f"journal_size_limit={WAL_BYTES_KEPT_MAX}",
        ):
            await writer.execute_fetchall(f"PRAGMA {pragma}")
        yield writer


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


@contextlib.asynccontextmanager
async def _reader(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    async with aiosqlite.connect(
        _read_only(path), uri=True, isolation_level=None, cached_statements=512
    ) as reader:
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", f"cache_size=-{READER_CACHE_KIB}"):
            await reader.execute_fetchall(f"PRAGMA {pragma}")
        yield reader


async def _run[R](
    connection: aiosqlite.Connection,
    function: Callable[..., R],
    *args: object,
) -> R:
    """Run `function(sqlite3 connection, *args)` on the connection's thread, in one hop.

    A hop through aiosqlite's cursor methods costs 35-100 microseconds a statement, and they offer
    no public way to run several at once; `_execute` is what they are all made of.
    """
    try:
        call = connection._execute(function, connection._conn, *args)  # type: ignore[no-untyped-call] # noqa: SLF001
        return cast("R", await call)
    except sqlite3.OperationalError as error:
        raise _translated(error) from error


def _translated(error: sqlite3.OperationalError) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Contended(str(error))
    if code in _UNAVAILABLE_CODES:
        return Unavailable(str(error))
    return NoSuchTable(str(error)) if "no such table" in str(error) else error


def _begin(connection: sqlite3.Connection, sent_at_s: float) -> None:
    waited_ms = int((monotonic() - sent_at_s) * 1000)
    if waited_ms < BUSY_NOTICED_MS:
        connection.execute("BEGIN IMMEDIATE")
        return
    connection.execute(f"PRAGMA busy_timeout={max(0, BUSY_TIMEOUT_MS - waited_ms)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def _run_first(
    connection: sqlite3.Connection, statements: tuple[Statement, ...], sent_at_s: float
) -> list[list[Row]]:
    _begin(connection, sent_at_s)
    return _run_all(connection, statements)


def _run_all(connection: sqlite3.Connection, statements: Sequence[Statement]) -> list[list[Row]]:
    return [_select(connection, statement) for statement in statements]


def _play[Result](
    connection: sqlite3.Connection, script: Script[Result], sent_at_s: float
) -> Result:
    _begin(connection, sent_at_s)
    try:
        result = _run_script(connection, script)
        _commit(connection)
    except BaseException:
        _roll_back(connection)
        raise
    return result


def _run_script[Result](connection: sqlite3.Connection, script: Script[Result]) -> Result:
    statements = next(script)
    while True:
        try:
            statements = script.send(_run_all(connection, statements))
        except StopIteration as end:
            return cast("Result", end.value)


def _select(connection: sqlite3.Connection, statement: Statement) -> list[Row]:
    text, args, given = statement
    if given is None:
        return _execute(connection, _translate(text), args)
    found: list[Row] = []
    for rows in batched(given.rows, GIVEN_ROWS[-1]):
        prepared = next(size for size in GIVEN_ROWS if size >= len(rows))
        values = chain(*rows, repeat(None, (prepared - len(rows)) * len(rows[0])))
        with_rows = _with_rows(text, given.columns, prepared)
        found += _execute(connection, with_rows, (*values, len(rows), *args))
    return found


def _execute(connection: sqlite3.Connection, text: str, args: tuple[Value, ...]) -> list[Row]:
    if not _is_select(text):
        return connection.execute(text, args).fetchall()
    packed = _PACKED.get(text)
    if packed is None:
        packed = _PACKED[text] = _pack(connection, text, args)
    (document,) = connection.execute(packed, args).fetchone()
    return _decode_rows(document)


def _commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise OutcomeUnknown(f"COMMIT: {error}") from error


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # a full disk may have rolled it back already
        connection.execute("ROLLBACK")


_PACKED: dict[str, str] = {}
"""A SELECT's text -> the same SELECT giving all its rows as one JSON text."""

_decode_rows = msgspec.json.Decoder(list[Row]).decode


@functools.lru_cache(maxsize=1024)
def _translate(text: str, bound_before: int = 0) -> str:
    """`$1` to `?1`, or on from what is bound before the arguments."""
    return re.sub(r"\$(\d+)", lambda found: f"?{bound_before + int(found[1])}", text)


@functools.lru_cache(maxsize=1024)
def _with_rows(text: str, columns: str, rows: int) -> str:
    """The relation `given` in front: the values of `rows` rows and how many of these there are, all
    bound before the arguments.

    MATERIALIZED for a text with an ORDER BY, which SQLite else takes for one before the LIMIT; for
    another it would be a copy for nothing. The values are bound without numbers: to bind ?900,
    `sqlite3` asks for its name, and SQLite looks through the 899 before it.
    """
    names = [column.split()[0] for column in columns.split(", ")]
    row = f"({', '.join('?' * len(names))})"
    values = f"VALUES {', '.join([row] * rows)}"
    how = "AS MATERIALIZED" if "ORDER BY" in text else "AS"
    given = f"WITH given ({', '.join(names)}) {how} (SELECT * FROM ({values}) LIMIT ?)"
    translated = _translate(text, len(names) * rows + 1)
    if translated.startswith("WITH "):
        return f"{given}, {translated.removeprefix('WITH ')}"
    return f"{given} {translated}"


@functools.lru_cache(maxsize=1024)
def _is_select(text: str) -> bool:
    return re.search(r"\b(INSERT|UPDATE|DELETE|CREATE|PRAGMA|BEGIN)\b", text) is None


def _pack(connection: sqlite3.Connection, text: str, args: tuple[object, ...]) -> str:
    """A subquery's own ORDER BY is kept under json_group_array (SQLite omits it only in joins)."""
    cursor = connection.execute(f"SELECT * FROM ({text}) LIMIT 0", args)
    names = [f"c{index}" for index in range(len(cursor.description))]
    return (
        f"WITH packed({', '.join(names)}) AS ({text}) "
        f"SELECT json_group_array(json_array({', '.join(names)})) FROM packed"
    )

"""Runs statements on one connection to an embedded file.

The connection lives in a thread of the server or in a separate process; the code is the same.

A commit is durable when it returns: WAL with synchronous=FULL (SQLite's "Write-Ahead Logging",
section 2.3: NORMAL would lose the last commits in a power failure).

Rows go in by the hundred and come out as one JSON text, because the `sqlite3` module releases the
GIL around every row that it steps to, and has to win it back from a busy event loop. Fifty rows are
fifty such waits; one statement is one. Measured with a busy loop: 39 rows/s by `executemany`.
"""

import functools
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from itertools import batched
from pathlib import Path
from time import monotonic

import msgspec

from firmtrail.database import stubs
from firmtrail.database.database import (
    APPENDED,
    AppendRefused,
    Contended,
    NoSuchTable,
    OutcomeUnknown,
    Row,
    Script,
    Statement,
    Steps,
    Unavailable,
    Value,
)

WRITER_CACHE_KIB = 64 * 1024
READER_CACHE_KIB = 16 * 1024
WAL_CHECKPOINT_PAGES = 16_000
"""A page that many commits change between two checkpoints is written to the file only once."""

GIVEN_ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""The numbers of rows of `given` that statements are prepared for. Surplus rows stay unread, but
their values are bound."""

BUSY_TIMEOUT_MS = 5_000
"""How long a write waits for another program that has the file locked. The time counts from when
the write was sent, so it includes the wait for earlier writes of this process."""
BUSY_NOTICED_MS = 100
"""A shorter wait is not subtracted from the timeout: that would cost a statement."""
WAL_BYTES_KEPT_MAX = 64 * 1024 * 1024

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


_PRAGMAS_TO_WRITE = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "recursive_triggers=ON",
    "secure_delete=ON",  # an erased text's bytes are zeroed, not only freed
    "trusted_schema=OFF",
    f"cache_size=-{WRITER_CACHE_KIB}",
    f"wal_autocheckpoint={WAL_CHECKPOINT_PAGES}",
    f"journal_size_limit={WAL_BYTES_KEPT_MAX}",
)
_PRAGMAS_TO_READ = (f"cache_size=-{READER_CACHE_KIB}",)


def connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    """Opens a connection, which `set_up` then prepares. The one that writes also checkpoints."""
    name = str(path) if writes else f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(name, uri=not writes, isolation_level=None, cached_statements=512)


def set_up(
    connection: sqlite3.Connection, clock: Callable[[], float] = time.time, *, writes: bool
) -> None:
    pragmas = _PRAGMAS_TO_WRITE if writes else _PRAGMAS_TO_READ
    for pragma in (*pragmas, f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")
    connection.create_function("now_ms", 0, lambda: int(clock() * 1000))


def allow_pruning(connection: sqlite3.Connection) -> None:
    """Gives this connection the function by which a trigger of `events` lets a stub in. A trigger
    may call such a function only where the schema is trusted (SQLite, PRAGMA trusted_schema)."""
    connection.create_function("leaf_hash", 1, stubs.leaf_hash, deterministic=True)
    connection.execute("PRAGMA trusted_schema=ON")


def run[R](function: Callable[..., R], connection: sqlite3.Connection, args: Sequence[object]) -> R:
    """Runs one of the functions below; translates SQLite's errors to those of `database`."""
    try:
        return function(connection, *args)
    except sqlite3.OperationalError as error:
        raise _translated(error) from error
    except sqlite3.IntegrityError as error:
        if "append-only" in str(error) or _TAKEN_POSITION.search(str(error)):
            raise AppendRefused.because(str(error)) from error
        raise


_INDEXED_BY = re.compile(r"/\*(INDEXED BY \w+)\*/")

_TAKEN_POSITION = re.compile(rf"^UNIQUE constraint failed: ({'|'.join(APPENDED)})\.")


def _translated(error: sqlite3.OperationalError) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Contended(str(error))
    if code in _UNAVAILABLE_CODES:
        return Unavailable(str(error))
    return NoSuchTable(str(error)) if "no such table" in str(error) else error


def begin(connection: sqlite3.Connection, sent_at_s: float) -> None:
    waited_ms = int((monotonic() - sent_at_s) * 1000)
    if waited_ms < BUSY_NOTICED_MS:
        connection.execute("BEGIN IMMEDIATE")
        return
    connection.execute(f"PRAGMA busy_timeout={max(0, BUSY_TIMEOUT_MS - waited_ms)}")
    try:
        connection.execute("BEGIN IMMEDIATE")
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def run_first(
    connection: sqlite3.Connection, statements: tuple[Statement, ...], sent_at_s: float
) -> list[list[Row]]:
    begin(connection, sent_at_s)
    return run_all(connection, statements)


def run_all(connection: sqlite3.Connection, statements: Sequence[Statement]) -> list[list[Row]]:
    return [select(connection, statement) for statement in statements]


def play[Result](
    connection: sqlite3.Connection,
    sent_at_s: float,
    make: Callable[..., Script[Result]],
    *args: object,
) -> Result:
    """Play a script in a transaction of its own; `sent_at_s` is a time of `monotonic`."""
    begin(connection, sent_at_s)
    try:
        result = _run_script(connection, make(*args))
        commit(connection)
    except BaseException:
        roll_back(connection)
        raise
    return result


def _run_script[Result](connection: sqlite3.Connection, script: Script[Result]) -> Result:
    steps = Steps(script)
    for statements in steps:
        steps.rows = run_all(connection, statements)
    return steps.result


def select(connection: sqlite3.Connection, statement: Statement) -> list[Row]:
    text, args, given, _ = statement
    if given is None:
        return _execute(connection, _translate(text), args)
    found: list[Row] = []
    for rows in batched(given.rows, GIVEN_ROWS[-1]):
        prepared = next(size for size in GIVEN_ROWS if size >= len(rows))
        values: list[Value] = []
        for row in rows:
            values += row
        values += [None] * ((prepared - len(rows)) * len(rows[0]))
        values += (len(rows), *args)
        found += _execute(connection, _with_rows(text, given.columns, prepared), values)
    return found


def _execute(connection: sqlite3.Connection, text: str, args: Sequence[Value]) -> list[Row]:
    if not _is_select(text):
        return connection.execute(text, args).fetchall()
    packed = _PACKED.get(text)
    if packed is None:
        packed = _PACKED[text] = _pack(connection, text, args)
    (document,) = connection.execute(packed, args).fetchone()
    return _decode_rows(document)


def commit(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise OutcomeUnknown(f"COMMIT: {error}") from error


def truncate_wal(connection: sqlite3.Connection) -> bool:
    """Writes all of the WAL into the file and empties it. Returns False where a reader prevents it,
    or where nothing can be written. It does not wait, as that would make writers wait."""
    connection.execute("PRAGMA busy_timeout=0")
    try:
        (is_busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return not is_busy


def roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # a full disk may have rolled it back already
        connection.execute("ROLLBACK")


_PACKED: dict[str, str] = {}
"""A SELECT's text -> the same SELECT, which returns all its rows as one JSON text."""

_decode_rows = msgspec.json.Decoder(list[Row]).decode


@functools.lru_cache(maxsize=1024)
def _translate(text: str, bound_before: int = 0) -> str:
    """Turns `$1` into `?1`, or into a higher number after values that are bound before it; and
    `/*INDEXED BY name*/` into an order to the planner, which without statistics takes the primary
    key for a partial index of the same columns. PostgreSQL reads a comment there."""
    ordered = _INDEXED_BY.sub(r"\1", text)
    return re.sub(r"\$(\d+)", lambda found: f"?{bound_before + int(found[1])}", ordered)


@functools.lru_cache(maxsize=1024)
def _with_rows(text: str, columns: str, rows: int) -> str:
    """Returns the text with the relation `given` in front: the values of `rows` rows and the number
    of rows in use, all bound before the arguments.

    `given` is MATERIALIZED for a text with an ORDER BY, as SQLite would otherwise apply that order
    before the LIMIT; for other texts it would be a useless copy. The values are bound without
    numbers: to bind ?900, `sqlite3` asks for its name, and SQLite searches the 899 before it.
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


def _pack(connection: sqlite3.Connection, text: str, args: Sequence[Value]) -> str:
    """Returns the SELECT packed into one JSON text. Its ORDER BY stays in force under
    json_group_array: SQLite omits a subquery's ORDER BY only in joins."""
    cursor = connection.execute(f"SELECT * FROM ({text}) LIMIT 0", args)
    names = [f"c{index}" for index in range(len(cursor.description))]
    return (
        f"WITH packed({', '.join(names)}) AS ({text}) "
        f"SELECT json_group_array(json_array({', '.join(names)})) FROM packed"
    )

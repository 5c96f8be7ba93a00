"""The back end for scale: one Postgres, any number of servers.

Each connection turns synchronous_commit on and reads it back, so a commit is durable when it
returns whatever the cluster's default is. Settings are sent by SET and not as start-up parameters,
which a pooler refuses or drops; where a pooler pools transactions, they are set in each of them.
Locks, statements and idle transactions are bounded: a server that stalls under a head lock is cut
off by Postgres, and the others continue. A connection on which Postgres says nothing is given up a
little later than Postgres would have spoken.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from firmtrail.database.database import (
    APPENDED,
    AppendRefused,
    Contended,
    NoSuchTable,
    OutcomeUnknown,
    ReadOnly,
    Row,
    Script,
    Statement,
    Unavailable,
    played,
)

CONNECTIONS_MAX = 8
STATEMENT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + 2
CONNECT_TIMEOUT_S = 5
ACQUIRE_TIMEOUT_S = 5

_SESSION = {
    "application_name": "firmtrail",
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": "10s",
    # Every query is written for its index, also where statistics think the table small, and for its
    # order, which a bitmap scan loses: a page of devices would be sorted out of all of them.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A plan for a value expects no row of a log or a generation that came after the last ANALYZE.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

_SET = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION.items())
_SET_SESSION = f"SELECT {_SET}"
_SET_LOCAL = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _SESSION.items())

_SYNCED = "SET LOCAL synchronous_commit = 'on'"
"""Every transaction says so itself, in the message of its BEGIN: whatever a session was set to."""

_IS_SYNCED = "SELECT current_setting('synchronous_commit')"

_READ_ONLY = """\
SELECT CAST(pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS int)"""

_KEEP = Statement("SELECT set_config('idle_in_transaction_session_timeout', '10min', true)")
"""A snapshot lies idle while what was read of it is looked at; it locks nothing meanwhile."""

_UNAVAILABLE_CLASSES = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
"""SQLSTATE classes: connection, read-only, who may connect, which database, serialization,
resources, locks, operator, system."""

_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver raises of a connection that ended or ran out of time (a TimeoutError is an
OSError); InternalClientError is the next statement's, where it was ended between two."""

type _Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


class Pooler(Enum):
    """What pools the connections between this process and Postgres."""

    SESSION = "session"
    """Nothing, or a pooler that gives a client one connection for as long as it is connected."""
    TRANSACTION = "transaction"
    """A pooler that may give a client another connection with each transaction."""


async def connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection, outside any pool: to migrate, which takes as long as it takes.

    It prepares no statement that outlives its transaction, so it works through any pooler.
    """
    return await _connected(dsn, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)


async def _connected(dsn: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """Returns a connection to a host that takes writes, unless the URL wants another one.

    Where no host does, one to a host that only reads: the server is not ready, and says why.
    """
    if "target_session_attrs" not in dict(parse_qsl(urlsplit(dsn).query)):
        with contextlib.suppress(asyncpg.TargetServerAttributeNotMatched):
            return await asyncpg.connect(
                dsn, target_session_attrs=SessionAttribute.read_write, **options
            )
    return await asyncpg.connect(dsn, **options)


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Set up a connection that is ours alone. Raises `Unavailable` where commits are not synced."""
    await connection.execute(_SET_SESSION)
    if (found := await connection.fetchval(_IS_SYNCED)) != _SESSION["synchronous_commit"]:
        raise Unavailable(
            f"synchronous_commit is {found} on a connection that has set it to on, so a commit "
            "could be lost. A pooler that pools transactions needs --pooler transaction."
        )


async def _clean(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Leave the settings as they are; nothing else of a borrower outlasts its transaction."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


class Postgres:
    """A pool of connections to one database, open until `close`."""

    plays_in_turn = False  # it would hold a connection, and stand in other servers' way to the head

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", pooler: Pooler) -> None:
        self._pool = pool
        self._is_shared = pooler is Pooler.TRANSACTION
        self._set = f"; {_SET_LOCAL if self._is_shared else _SYNCED}"
        """What follows each BEGIN."""

    @classmethod
    async def open(cls, dsn: str, pooler: Pooler = Pooler.SESSION) -> "Postgres":
        """Connect; raises `Unavailable` when nobody answers there."""
        is_shared = pooler is Pooler.TRANSACTION
        with _errors_translated():
            pool = await asyncpg.create_pool(  # type: ignore[call-overload] # stubs of `connect`
                dsn,
                min_size=1,
                max_size=CONNECTIONS_MAX,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=ANSWER_TIMEOUT_S,
                statement_cache_size=0 if is_shared else 512,
                connect=_connected,
                init=None if is_shared else _prepare,
                reset=_clean,
            )
        return cls(pool, pooler)

    async def read(self, statement: Statement) -> list[Row]:
        with _errors_translated():
            async with self._connection() as connection:
                if self._is_shared:
                    return await self._read_in_transaction(connection, statement)
                return await _run(connection, statement)

    async def _read_in_transaction(
        self, connection: _Connection, statement: Statement
    ) -> list[Row]:
        """Preparing and running a statement must reach the same connection of the pooler's."""
        await _execute(connection, f"BEGIN{self._set}")
        try:
            return await _run(connection, statement)
        finally:
            with contextlib.suppress(asyncpg.PostgresError, *_BROKEN):  # then it is gone
                await _execute(connection, "ROLLBACK")

    async def is_read_only(self) -> bool:
        """Returns whether it is; then connections are made again, as another host may take writes
        by now."""
        [[is_read_only]] = await self.read(Statement(_READ_ONLY))
        if is_read_only:
            await self._pool.expire_connections()
        return bool(is_read_only)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["PostgresTransaction"]:
        async with self.moment() as reader:
            await reader.run(_KEEP)  # the first statement takes the snapshot
            yield reader

    @contextlib.asynccontextmanager
    async def moment(self) -> AsyncIterator["PostgresTransaction"]:
        with _errors_translated():
            async with self._connection() as connection:
                begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                await _execute(connection, f"{begin}{self._set}")
                try:
                    yield PostgresTransaction(connection)
                finally:
                    with contextlib.suppress(asyncpg.PostgresError, *_BROKEN):  # then it is gone
                        await _execute(connection, "ROLLBACK")

    async def play[Result](self, make: Callable[..., Script[Result]], *args: object) -> Result:
        async with self.transaction() as tx:
            return await played(tx, make(*args))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["PostgresTransaction"]:
        with _errors_translated():
            async with self._connection() as connection:
                await _execute(connection, f"BEGIN{self._set}")
                try:
                    yield PostgresTransaction(connection)
                except BaseException:
                    with contextlib.suppress(asyncpg.PostgresError, *_BROKEN):  # then it is gone
                        await _execute(connection, "ROLLBACK")
                    raise
                await _commit(connection)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """Lend a connection. One that can't be cleaned for the next borrower is ended by the pool,
        and what this borrower did stays done: a commit is no failure for it.
        """
        connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        try:
            yield connection
        finally:
            with contextlib.suppress(asyncpg.PostgresError, *_BROKEN):
                await self._pool.release(connection)

    async def scrub(self) -> bool:
        return True

    async def close(self) -> None:
        await self._pool.close()


class PostgresTransaction:
    """Runs its statements one after another on one connection."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def read(self, statement: Statement) -> list[Row]:
        with _errors_translated():
            return await _run(self._connection, statement)

    async def run(self, *statements: Statement) -> list[list[Row]]:
        with _errors_translated():
            return [await _run(self._connection, statement) for statement in statements]


async def _run(connection: _Connection, statement: Statement) -> list[Row]:
    text, args = statement.text, list[object](statement.args)
    if statement.given is not None:
        text = _with_given(text, statement.given.columns, len(args))
        width = len(statement.given.columns.split(", "))
        columns = zip(*statement.given.rows, strict=True) if statement.given.rows else [()] * width
        args.extend(map(list, columns))
    with _given_up_when_late(connection):
        return await connection.fetch(text, *args)  # type: ignore[return-value] # a Record is a Row


async def _execute(connection: _Connection, text: str) -> str:
    with _given_up_when_late(connection):
        return await connection.execute(text)


@contextlib.contextmanager
def _given_up_when_late(connection: _Connection) -> Iterator[None]:
    """Ends a connection that ran out of time: cancelling and rolling back would wait as long."""
    try:
        yield
    except TimeoutError:
        connection.terminate()
        raise


async def _commit(connection: _Connection) -> None:
    """Postgres answers ROLLBACK, and no error, where a statement failed and nobody minded."""
    try:
        ended = await _execute(connection, "COMMIT")
    except (asyncpg.PostgresError, *_BROKEN) as error:
        raise OutcomeUnknown(f"COMMIT: {error}") from error
    assert ended == "COMMIT", "a statement of this transaction failed, and its error was dropped"


@functools.lru_cache(maxsize=1024)
def _with_given(text: str, columns: str, arguments: int) -> str:
    """Returns the relation `given` in front: one array a column, the arrays behind the arguments.

    In a generic plan an array that is an argument counts as ten rows, and of a limit that it can't
    know the planner expects a tenth (PostgreSQL's estimate_array_length, adjust_limit_rows_costs).
    So it expects one row of `given`, for which a table's rows are found by the whole key, however
    small the table is when the plan is made. For ten it would read all of a small table, and go on
    so for minutes while the table grows.
    """
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    arrays = ", ".join(
        f"${index}::{column.split()[1]}[]"
        for index, column in enumerate(columns.split(", "), start=arguments + 1)
    )
    rows = f"SELECT * FROM unnest({arrays}) AS g({names}) LIMIT (SELECT NULL::bigint)"
    given = f"WITH given AS ({rows})"
    if text.startswith("WITH "):
        return f"{given}, {text.removeprefix('WITH ')}"
    return f"{given} {text}"


@contextlib.contextmanager
def _errors_translated() -> Iterator[None]:
    """Driver errors that mean "not now" become `Unavailable`; the others are bugs and pass."""
    try:
        yield
    except (asyncpg.UniqueViolationError, asyncpg.RaiseError) as error:
        if not _is_of_an_append(error):
            raise
        raise AppendRefused.because(f"{error}: {error.detail}") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise ReadOnly(str(error)) from error
    except asyncpg.UndefinedTableError as error:
        raise NoSuchTable(str(error)) from error
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise Contended(str(error)) from error
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in _UNAVAILABLE_CLASSES:
            raise Unavailable(str(error)) from error
        raise
    except _BROKEN as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def _is_of_an_append(error: asyncpg.PostgresError) -> bool:
    """Returns whether a row at the end of a log was refused, by a key or by a trigger of ours."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return error.table_name in APPENDED
    return "is append-only" in str(error)

"""Runs on Postgres, the back end for scale: one Postgres, any number of servers.

Each connection turns synchronous_commit on and reads it back, so a commit is durable when it
returns, whatever the cluster's default is. Settings are sent by SET and not as start-up parameters,
which a pooler refuses or drops; where a pooler pools transactions, each transaction sets them.
Locks, statements and idle transactions have time limits: Postgres ends the session of a server that
stalls under a head lock, and the others continue. A connection on which Postgres does not answer is
given up a little after the time in which Postgres would have ended the statement.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from firmtrail.database import stubs
from firmtrail.database.database import (
    APPENDED,
    AppendRefused,
    Connections,
    Contended,
    NoSuchTable,
    NotAllowed,
    OutcomeUnknown,
    ReadOnly,
    Row,
    Script,
    Statement,
    Unavailable,
    played,
)
from firmtrail.database.entry_archive import EntryArchive
from firmtrail.database.migrating import Migrating

CONNECTIONS_MAX = 8
STATEMENT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + 2
CONNECT_TIMEOUT_S = 5
ACQUIRE_TIMEOUT_S = 5
MIGRATION_LOCK_TIMEOUT = "500ms"
"""Less than deadlock_timeout (1 s by default), after which Postgres would choose a session to
end."""

_SESSION = {
    "application_name": "firmtrail",
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": "10s",
    # Every query is written for its index, even where statistics say that the table is small, and
    # for the index's order, which a bitmap scan loses: it would sort all devices to find a page.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A plan for one value expects no rows of a log or generation newer than the last ANALYZE.
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

_SET = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _SESSION.items())
_SET_SESSION = f"SELECT {_SET}"
_SET_LOCAL = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _SESSION.items())

_SYNCED = "SET LOCAL synchronous_commit = 'on'"
"""Sent in the message of each BEGIN, so it holds whatever else the session was set to."""

_IS_SYNCED = "SELECT current_setting('synchronous_commit')"

_READ_ONLY = """\
SELECT CAST(pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS int)"""

_KEEP = Statement("SELECT set_config('idle_in_transaction_session_timeout', '10min', true)")
"""Lets a snapshot stay idle while its rows are processed; it locks nothing meanwhile."""

_UNAVAILABLE_CLASSES = ("08", "25", "28", "3D", "40", "53", "55", "57", "58")
"""SQLSTATE classes: connection, read-only, authorization, unknown database, serialization,
resources, locks, operator, system."""

_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""The driver raises these for a connection that ended or ran out of time (a TimeoutError is an
OSError). It raises InternalClientError in the next statement if the connection ended between
two."""

type _Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]


async def connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Opens one connection without any time limit on statements, outside any pool: for migrations.
    It prepares no statement that outlives its transaction, so it works through any pooler."""
    return await _connected(dsn, timeout=CONNECT_TIMEOUT_S, statement_cache_size=0)


async def _connected(dsn: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """Returns a connection to a host that takes writes, unless the URL asks for another kind. Where
    no host does, returns one to a read-only host: the server is then not ready, and says why."""
    if "target_session_attrs" not in dict(parse_qsl(urlsplit(dsn).query)):
        with contextlib.suppress(asyncpg.TargetServerAttributeNotMatched):
            return await asyncpg.connect(
                dsn, target_session_attrs=SessionAttribute.read_write, **options
            )
    return await asyncpg.connect(dsn, **options)


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Sets up a connection that no other client shares. Raises `Unavailable` where commits are not
    synced."""
    await connection.execute(_SET_SESSION)
    if (found := await connection.fetchval(_IS_SYNCED)) != _SESSION["synchronous_commit"]:
        raise Unavailable(
            f"synchronous_commit is {found} although this connection has set it to on, so a commit "
            "could be lost. A pooler that pools transactions needs --pooler transaction."
        )


async def _clean(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Ends an open transaction. Settings stay; nothing else of a borrower outlives its
    transaction."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


_ONE_AT_A_TIME = """\
SELECT
    set_config('idle_in_transaction_session_timeout', '0', true),
    pg_advisory_xact_lock(hashtext('firmtrail migrate'))"""


def migrating(dsn: str) -> Migrating:
    """Returns how a migration changes this database, while servers use it. It is connected to by
    `connect`, as SQLAlchemy has other names for the URL's options."""
    return Migrating(
        "postgresql+asyncpg",
        None,
        {"async_creator": functools.partial(connect, dsn)},
        is_alone=False,
        on_begin=f"SET LOCAL lock_timeout = '{MIGRATION_LOCK_TIMEOUT}'",
        contended=("55P03", "40P01"),
        one_at_a_time=_ONE_AT_A_TIME,
    )


class Postgres:
    """Keeps a pool of connections to one database open until `close`."""

    plays_in_turn = False  # a waiting script would keep a connection, and block other servers

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, is_shared: bool) -> None:
        self.archive: EntryArchive | None = None
        self._pool = pool
        self._is_shared = is_shared
        self._set = f"; {_SET_LOCAL if self._is_shared else _SYNCED}"
        """Follows each BEGIN."""

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        is_shared: bool = False,
        connections_min: int = 1,
    ) -> "Postgres":
        """Connects; raises `Unavailable` when no server answers. `is_shared` says that a pooler may
        give a client another connection for each transaction. With `connections_min=0` it connects
        at the first statement."""
        with _errors_translated():
            pool = await asyncpg.create_pool(  # type: ignore[call-overload] # stubs of `connect`
                dsn,
                min_size=connections_min,
                max_size=CONNECTIONS_MAX,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=ANSWER_TIMEOUT_S,
                statement_cache_size=0 if is_shared else 512,
                connect=_connected,
                init=None if is_shared else _prepare,
                reset=_clean,
            )
        return cls(pool, is_shared=is_shared)

    async def read(self, statement: Statement) -> list[Row]:
        return await stubs.restored(await self._read(statement), statement, self.archive)

    async def _read(self, statement: Statement) -> list[Row]:
        with _errors_translated():
            async with self._connection() as connection:
                if self._is_shared:
                    return await self._read_in_transaction(connection, statement)
                return await _run(connection, statement)

    async def _read_in_transaction(
        self, connection: _Connection, statement: Statement
    ) -> list[Row]:
        """Prepares and runs a statement in one transaction, so that the pooler sends both to the
        same connection."""
        await _execute(connection, f"BEGIN{self._set}")
        try:
            return await _run(connection, statement)
        finally:
            await _roll_back(connection)

    async def is_read_only(self) -> bool:
        """Returns whether the host takes no writes. If so, the pool connects again, as another host
        may take writes by now."""
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
                    yield PostgresTransaction(connection, self.archive)
                finally:
                    await _roll_back(connection)

    async def play[Result](self, make: Callable[..., Script[Result]], *args: object) -> Result:
        async with self.transaction() as tx:
            return await played(tx.stored, make(*args))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["PostgresTransaction"]:
        with _errors_translated():
            async with self._connection() as connection:
                await _execute(connection, f"BEGIN{self._set}")
                try:
                    yield PostgresTransaction(connection, self.archive)
                except BaseException:
                    await _roll_back(connection)
                    raise
                await _commit(connection)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        """Lends a connection. The pool ends one that can't be cleaned for the next borrower. That
        is no error for this borrower: its commit stays committed.
        """
        connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        try:
            yield connection
        finally:
            with contextlib.suppress(asyncpg.PostgresError, *_BROKEN):
                await self._pool.release(connection)

    @property
    def connections(self) -> Connections:
        size = self._pool.get_size()
        return Connections(size, size - self._pool.get_idle_size())

    async def allow_pruning(self) -> None:
        """Does nothing: the role of the connection decides."""

    async def scrub(self) -> bool:
        return True

    async def close(self) -> None:
        await self._pool.close()


class PostgresTransaction:
    """Runs its statements one after another on one connection."""

    def __init__(self, connection: _Connection, archive: EntryArchive | None) -> None:
        self.stored = StoredRows(connection)
        self._archive = archive

    async def read(self, statement: Statement) -> list[Row]:
        [rows] = await self.run(statement)
        return rows

    async def run(self, *statements: Statement) -> list[list[Row]]:
        found = await self.stored.run(*statements)
        return await stubs.all_restored(found, statements, self._archive)


class StoredRows:
    """Runs statements one after another on one connection, and returns the rows as they are stored:
    for scripts, which may not wait for an archive."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

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


async def _roll_back(connection: _Connection) -> None:
    with contextlib.suppress(asyncpg.PostgresError, *_BROKEN):  # then the connection has ended
        await _execute(connection, "ROLLBACK")


@contextlib.contextmanager
def _given_up_when_late(connection: _Connection) -> Iterator[None]:
    """Ends a connection that ran out of time: to cancel and roll back would take as long again."""
    try:
        yield
    except TimeoutError:
        connection.terminate()
        raise


async def _commit(connection: _Connection) -> None:
    """Commits, and checks the answer: after a failed statement whose error was ignored, Postgres
    answers ROLLBACK without an error."""
    try:
        ended = await _execute(connection, "COMMIT")
    except (asyncpg.PostgresError, *_BROKEN) as error:
        raise OutcomeUnknown(f"COMMIT: {error}") from error
    assert ended == "COMMIT", "a statement of this transaction failed, and its error was dropped"


@functools.lru_cache(maxsize=1024)
def _with_given(text: str, columns: str, arguments: int) -> str:
    """Returns the text with the relation `given` in front: one array a column, numbered after the
    arguments.

    A generic plan estimates an array argument as ten rows, and a limit of unknown value as a tenth
    of that (PostgreSQL's estimate_array_length, adjust_limit_rows_costs). So the planner expects
    one row of `given`, and finds a table's rows by the whole key, however small the table is when
    the plan is made. For ten rows it would scan a small table, and keep that plan for minutes while
    the table grows.
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
    """Translates driver errors that mean "not now" to `Unavailable`; others are bugs, and pass."""
    try:
        yield
    except (asyncpg.UniqueViolationError, asyncpg.RaiseError) as error:
        if not _is_of_an_append(error):
            raise
        raise AppendRefused.because(f"{error}: {error.detail}") from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise ReadOnly(str(error)) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise NotAllowed(str(error)) from error
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
    """Returns whether a key or a trigger of ours refused a row at the end of a log."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return (error.table_name or "").rstrip("_0123456789") in APPENDED  # events_0 is a part
    return "is append-only" in str(error)

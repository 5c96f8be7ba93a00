"""The back end for scale: one Postgres, any number of servers.

Each connection turns synchronous_commit on, so a commit is durable when it returns whatever the
cluster's default is. Locks, statements and idle transactions are bounded: a server that stalls
under a head lock is cut off by Postgres, and the others go on.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator

import asyncpg

from firmtrail.eventstore.database import NoSuchTable, OutcomeUnknown, Row, Statement, Unavailable

CONNECTIONS_MAX = 8
STATEMENT_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 5
ACQUIRE_TIMEOUT_S = 5

_SESSION = {
    "application_name": "firmtrail",
    "synchronous_commit": "on",
    "lock_timeout": "5s",
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": "10s",
    # Every query is written for its index; a table that statistics think small is no exception.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

_UNAVAILABLE_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
"""SQLSTATE classes: connection, read-only, serialization, resources, locks, operator, system."""


class Postgres:
    """A pool of connections to one database, open until `close`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(cls, dsn: str) -> "Postgres":
        """Connect; raises `Unavailable` when nobody answers there."""
        with _errors_translated():
            pool = await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=CONNECTIONS_MAX,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                statement_cache_size=512,
                server_settings=_SESSION,
            )
        return cls(pool)

    async def read(self, statement: Statement) -> list[Row]:
        with _errors_translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                return await _run(connection, statement)

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["PostgresTransaction"]:
        with _errors_translated():
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
                await connection.execute("BEGIN")
                try:
                    yield PostgresTransaction(connection)
                except BaseException:
                    if not connection.is_closed():
                        await connection.execute("ROLLBACK")
                    raise
                await _commit(connection)

    async def close(self) -> None:
        await self._pool.close()


class PostgresTransaction:
    """Runs its statements one after another on one connection."""

    def __init__(self, connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
        self._connection = connection

    async def run(self, *statements: Statement) -> list[list[Row]]:
        with _errors_translated():
            return [await _run(self._connection, statement) for statement in statements]


async def _run(
    connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]", statement: Statement
) -> list[Row]:
    text, args = statement.text, list[object](statement.args)
    if statement.given is not None:
        text = _with_given(text, statement.given.columns, len(args))
        width = len(statement.given.columns.split(", "))
        columns = zip(*statement.given.rows, strict=True) if statement.given.rows else [()] * width
        args.extend(map(list, columns))
    return await connection.fetch(text, *args)  # type: ignore[return-value] # a Record is a Row


async def _commit(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
    try:
        await connection.execute("COMMIT")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OutcomeUnknown(f"COMMIT: {error}") from error


@functools.lru_cache(maxsize=1024)
def _with_given(text: str, columns: str, arguments: int) -> str:
    """The relation `given` in front: one array a column, the arrays behind the arguments."""
    names = ", ".join(column.split()[0] for column in columns.split(", "))
    arrays = ", ".join(
        f"${index}::{column.split()[1]}[]"
        for index, column in enumerate(columns.split(", "), start=arguments + 1)
    )
    given = f"WITH given AS (SELECT * FROM unnest({arrays}) AS g({names}))"
    if text.startswith("WITH "):
        return f"{given}, {text.removeprefix('WITH ')}"
    return f"{given} {text}"


@contextlib.contextmanager
def _errors_translated() -> Iterator[None]:
    """Driver errors that mean "not now" become `Unavailable`; the others are bugs and pass."""
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise NoSuchTable(str(error)) from error
    except asyncpg.PostgresError as error:
        if (error.sqlstate or "")[:2] in _UNAVAILABLE_CLASSES:
            raise Unavailable(str(error)) from error
        raise
    except asyncpg.DataError:
        raise
    except (OSError, asyncpg.InterfaceError) as error:  # a TimeoutError is an OSError
        raise Unavailable(f"{type(error).__name__}: {error}") from error

"""Helps revisions to run while servers serve: with short locks, retries, and data in batches.

A revision expands the schema: it adds tables, or columns that may be empty. It is one transaction,
waits for a lock no longer than LOCK_TIMEOUT, and is tried again as a whole (`migrate.migrate`). So
a server waits no longer either, and a deadlock ends the migration's attempt and no append.

A revision that fills data does nothing else. It calls `in_batches`, which commits each batch on its
own. If it is killed in between, it runs again and finds the remaining rows; so its statement must
skip the rows that are done.
"""

from collections.abc import Callable

from alembic import context, op
from sqlalchemy import Connection, text

LOCK_TIMEOUT = "500ms"
"""Less than deadlock_timeout (1 s by default), after which Postgres would choose a session to
end."""

type OnMigrationProgress = Callable[[str, int], None]
"""Called with the name of the batch job, and the number of rows that are done."""


def bound_locks(connection: Connection) -> None:
    """Limits how long each statement of the transaction that has begun waits for a lock."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


def in_batches(name: str, statement: str) -> None:
    """Runs a statement, which changes some of the remaining rows, until it changes none.

    On Postgres each run is committed on its own. On SQLite, which only one process uses, all runs
    are one transaction.
    """
    if op.get_context().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            _until_none_is_left(name, statement)
    else:
        _until_none_is_left(name, statement)


def _until_none_is_left(name: str, statement: str) -> None:
    connection, progress = op.get_bind(), context.config.attributes["progress"]
    done = 0
    while changed := connection.execute(text(statement)).rowcount:
        done += changed
        progress(name, done)

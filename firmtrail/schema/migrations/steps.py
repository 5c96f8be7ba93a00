"""What a migration does while servers serve: short locks, tried again, and data in batches.

A revision expands the schema: new tables, new columns that may be empty. It is one transaction,
waits for a lock less than LOCK_TIMEOUT, and is tried again as a whole (`migrate.migrate`), so
nothing that a server does waits longer, and a deadlock ends the migration's attempt and no append.

A revision that fills data does nothing else: it calls `in_batches`, each batch of which is
committed on its own. Killed in between, it is run again and finds what is left, so its statement
must skip the rows that are done.
"""

from collections.abc import Callable

from alembic import context, op
from sqlalchemy import Connection, text

LOCK_TIMEOUT = "500ms"
"""Less than deadlock_timeout (1 s by default), after which Postgres would choose whom to end."""

type Progress = Callable[[str, int], None]
"""Called with the name of what is filled, and how many rows are done."""


def bound_locks(connection: Connection) -> None:
    """Let no statement of the transaction that has begun wait long for a lock."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


def in_batches(name: str, statement: str) -> None:
    """Run a statement, which changes some of the rows that are left, until it changes none.

    On Postgres each run is committed on its own; on SQLite, which one process holds, all are one
    transaction.
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

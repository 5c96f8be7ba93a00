"""Helps revisions to run while servers serve: with short locks, retries, and data in batches.

A revision expands the schema: it adds tables, or columns that may be empty. It is one transaction,
waits only briefly for a lock (`Migrating.on_begin`), and is tried again as a whole
(`migrate.migrate`). So a server waits no longer either, and a deadlock ends the migration's attempt
and no append.

A revision that fills data does nothing else. It calls `in_batches`, which commits each batch on its
own. If it is killed in between, it runs again and finds the remaining rows; so its statement must
skip the rows that are done.
"""

from collections.abc import Callable, Sequence

from alembic import context, op
from sqlalchemy import Connection, text

from firmtrail.schema.migrations import KEEP_OLDER_CODE_AWAY, statements

_KEEP_OLDER_CODE_AWAY = text(KEEP_OLDER_CODE_AWAY.replace("$1", ":since"))

type OnMigrationProgress = Callable[[str, int], None]
"""Called with the name of the batch job, and the number of rows that are done."""


def run(shared: Sequence[str], own: Sequence[str] = (), postgres: Sequence[str] = ()) -> None:
    """Runs files of `sql/`: those for both back ends, those that each has its own version of, and
    those that only Postgres has."""
    back_end = op.get_context().dialect.name
    versions = (*own, *postgres) if back_end == "postgresql" else own
    for name in (*shared, *(f"{each}.{back_end}" for each in versions)):
        for statement in statements(name, back_end):
            op.execute(statement)


def keep_older_code_away(connection: Connection, since: str) -> None:
    """Runs `KEEP_OLDER_CODE_AWAY` for a revision."""
    connection.execute(_KEEP_OLDER_CODE_AWAY, {"since": since})


def in_batches(name: str, statement: str) -> None:
    """Runs a statement, which changes some of the remaining rows, until it changes none.

    Each run is committed on its own, unless only one process uses the database: then all runs are
    one transaction.
    """
    if context.config.attributes["is_alone"]:
        _until_none_is_left(name, statement)
    else:
        with op.get_context().autocommit_block():
            _until_none_is_left(name, statement)


def _until_none_is_left(name: str, statement: str) -> None:
    connection, progress = op.get_bind(), context.config.attributes["progress"]
    done = 0
    while changed := connection.execute(text(statement)).rowcount:
        done += changed
        progress(name, done)

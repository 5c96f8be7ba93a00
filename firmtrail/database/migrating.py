"""Says how a migration connects to a database, and what it may rely on there.

These are plain values, so that a server which migrates nothing loads neither SQLAlchemy nor
alembic. Each back end makes its own; `schema/migrate.py` uses them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Migrating(NamedTuple):
    """Describes the database that a migration changes."""

    driver: str
    """The database and the driver, as SQLAlchemy names them: "sqlite+aiosqlite"."""
    path: str | None
    """The file, as a literal path; None: `options` say how to connect."""
    options: Mapping[str, Any]
    """Options for SQLAlchemy's create_async_engine."""
    is_alone: bool
    """Whether no other process may have the database open: then a migration is one transaction, and
    otherwise each revision is one, which is tried again if it waits too long for a lock."""
    on_begin: str | None = None
    """A statement that begins each transaction: it limits the wait for a lock."""
    contended: tuple[str, ...] = ()
    """The SQLSTATEs of a transaction that waited too long for a lock, or met a deadlock."""
    one_at_a_time: str | None = None
    """A statement that waits until no other migration runs, and keeps others away until the end of
    its transaction; None: nothing else is needed for that."""

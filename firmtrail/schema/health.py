"""Reads from the database whether this code can work with it."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from firmtrail.database.database import Database, Statement
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.schema import migrations

_NEWEST = """\
SELECT coalesce(max(recorded_at_ms), 0)
FROM log_heads
WHERE closed = 0 AND accepted_ms < recorded_at_ms"""
"""The time of the newest event in logs that are written to, except times that a user accepted."""

_OPEN = "SELECT project, number FROM log_heads WHERE closed = 0 ORDER BY log_id LIMIT $1"


class Health(NamedTuple):
    """Describes the state of a database, as far as a server's readiness depends on it."""

    has_schema: bool
    """The schema is one that this code can use."""
    recorded_at_ms: int = 0
    """The time of the newest event."""
    is_refused: bool = False
    """There are open logs, and all of them are refused."""
    is_read_only: bool = False
    """The database takes no writes, as a standby does."""


async def read(db: Database, refused: AbstractSet[LogName] = frozenset()) -> Health:
    """Returns the health of a database. Raises `Unavailable` when it does not answer."""
    if not await migrations.is_usable(db):
        return Health(has_schema=False)
    [[recorded_at_ms]] = await db.read(Statement(_NEWEST))
    # Among one more log than are refused, at least one is not refused: so many rows are enough.
    open_logs = await db.read(Statement(_OPEN, (len(refused) + 1,)))
    is_refused = bool(open_logs) and all(LogName(*row) in refused for row in open_logs)
    return Health(
        has_schema=True,
        recorded_at_ms=recorded_at_ms,
        is_refused=is_refused,
        is_read_only=await db.is_read_only(),
    )

"""What does a look at the database say? Enough to tell whether this code can work with it."""

from collections.abc import Set as AbstractSet
from typing import NamedTuple

from firmtrail.database.database import Database, Statement
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.schema import migrations

_NEWEST = """\
SELECT coalesce(max(recorded_at_ms), 0)
FROM log_heads
WHERE closed = 0 AND accepted_ms < recorded_at_ms"""
"""Of the logs that are written to; a time that somebody accepted keeps no log from it."""

_OPEN = "SELECT project, number FROM log_heads WHERE closed = 0 ORDER BY log_id LIMIT $1"


class Health(NamedTuple):
    """Whether the schema is this code's, the time of the newest event, and whether there are open
    logs and all of them are refused."""

    has_schema: bool
    recorded_at_ms: int = 0
    is_refused: bool = False
    is_read_only: bool = False
    """Nothing can be written: a standby, say."""


async def look(db: Database, refused: AbstractSet[LogName] = frozenset()) -> Health:
    """Raises `Unavailable` when the database does not answer."""
    if not await migrations.is_usable(db):
        return Health(has_schema=False)
    [[recorded_at_ms]] = await db.read(Statement(_NEWEST))
    # Of one more than are refused, one is not: so many are enough, whatever number there is.
    open_logs = await db.read(Statement(_OPEN, (len(refused) + 1,)))
    is_refused = bool(open_logs) and all(LogName(*row) in refused for row in open_logs)
    return Health(
        has_schema=True,
        recorded_at_ms=recorded_at_ms,
        is_refused=is_refused,
        is_read_only=await db.is_read_only(),
    )

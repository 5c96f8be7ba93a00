"""What does a look at the database say? Enough to tell whether this code can work with it."""

from typing import NamedTuple

from firmtrail.eventstore import migrations
from firmtrail.eventstore.database import Database, Statement

_NEWEST = "SELECT coalesce(max(recorded_at_ms), 0) FROM log_heads"


class Health(NamedTuple):
    """Whether the schema is this code's, and the time of the newest event of all logs."""

    has_schema: bool
    recorded_at_ms: int


async def look(db: Database) -> Health:
    """Raises `Unavailable` when the database does not answer."""
    if not await migrations.is_at_head(db):
        return Health(has_schema=False, recorded_at_ms=0)
    [[recorded_at_ms]] = await db.read(Statement(_NEWEST))
    return Health(has_schema=True, recorded_at_ms=recorded_at_ms)

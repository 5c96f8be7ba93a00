"""What does a look at the database say? Enough to tell whether this code can work with it."""

from typing import NamedTuple

from firmtrail.eventstore import migrations
from firmtrail.eventstore.database import Database, Statement

_LOOK = "SELECT coalesce(max(recorded_at_ms), 0), coalesce(sum(1 - closed), 0) FROM log_heads"


class Health(NamedTuple):
    """Whether the schema is this code's, the time of the newest event, how many logs are open."""

    has_schema: bool
    recorded_at_ms: int = 0
    open_logs: int = 0


async def look(db: Database) -> Health:
    """Raises `Unavailable` when the database does not answer."""
    if not await migrations.is_at_head(db):
        return Health(has_schema=False)
    [[recorded_at_ms, open_logs]] = await db.read(Statement(_LOOK))
    return Health(has_schema=True, recorded_at_ms=recorded_at_ms, open_logs=int(open_logs))

"""Reads how far all webhooks of a database are, for metrics and checks."""

from typing import NamedTuple

from firmtrail.database.database import Database, Statement

_LAG = """\
SELECT
    count(*),
    coalesce(sum(1 - webhooks.enabled), 0),
    coalesce(sum(webhooks.enabled * (log_heads.size - webhooks.position)), 0),
    min(CASE WHEN webhooks.enabled = 1 THEN webhooks.failing_since_ms END),
    min(CASE
        WHEN webhooks.enabled = 1 AND webhooks.failing_since_ms IS NULL THEN (
            SELECT events.recorded_at_ms
            FROM events
            WHERE events.log_id = webhooks.log_id AND events.position = webhooks.position)
    END)
FROM webhooks
JOIN log_heads ON log_heads.log_id = webhooks.log_id
JOIN projects ON projects.project = webhooks.project
JOIN log_heads AS newest ON newest.log_id = projects.log_id
WHERE newest.closed = 0"""


class Lag(NamedTuple):
    """Says how far all webhooks are."""

    webhooks: int
    disabled: int
    events: int
    """The entries that were not sent yet, over all enabled webhooks."""
    failing_since_ms: int | None
    waiting_since_ms: int | None
    """The time of the oldest event that was not sent yet to a webhook that does not fail."""


async def read(db: Database) -> Lag:
    """Returns how far all webhooks are, without those of projects that move or have moved."""
    [row] = await db.read(Statement(_LAG))
    return Lag(*row)

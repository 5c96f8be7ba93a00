"""Adds the identities of events that are older than the table of identities, on PostgreSQL.

The table `identities_left` says which positions of each log are left. Each batch is one statement,
which also says there that it is done, and is committed on its own. So a run after a kill continues
with the next batch, and servers append meanwhile.
"""

from alembic import context, op
from sqlalchemy import text

BATCH_EVENTS = 10_000

_BATCH = text("""\
WITH part AS (
    SELECT log_id, next, stop, least(next + :events, stop) AS until
    FROM identities_left
    ORDER BY log_id
    LIMIT 1),
added AS (
    INSERT INTO identities (log_id, stream, event_id, position)
    SELECT events.log_id, events.stream, events.event_id, events.position
    FROM part
    JOIN events
        ON events.log_id = part.log_id
        AND events.position >= part.next
        AND events.position < part.until
    ORDER BY events.stream, events.event_id),
moved AS (
    UPDATE identities_left
    SET next = part.until
    FROM part
    WHERE identities_left.log_id = part.log_id AND part.until < part.stop),
done AS (
    DELETE FROM identities_left
    USING part
    WHERE identities_left.log_id = part.log_id AND part.until = part.stop)
SELECT part.until - part.next
FROM part""")


def fill() -> None:
    """Adds the identities that are left, batch by batch."""
    progress = context.config.attributes["progress"]
    done = 0
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        while added := connection.scalar(_BATCH, {"events": BATCH_EVENTS}):
            done += added
            progress("identities", done)

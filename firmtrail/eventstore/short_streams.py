"""Reads the entries of one stream that stays short, and their texts: of a project, a rollout, a
person; not of a device. The entries of the logs that a log continues come first.
"""

from firmtrail.database.database import Reader, Statement
from firmtrail.eventstore import lineage
from firmtrail.eventstore.log import EntryPage

_READ_STREAM = """\
SELECT position, recorded_at_ms, entry
FROM events_by_stream
WHERE log_id = $1 AND stream = $2 AND position + 0 < $3
ORDER BY position + 0"""
"""Orders by `position + 0`: a bare `position` lets both planners scan the whole log in its
order."""

_STREAM_TEXTS = """\
SELECT events.position, texts.text
FROM events_by_stream AS events
JOIN texts ON texts.log_id = events.log_id AND texts.position = events.position
WHERE events.log_id = $1 AND events.stream = $2 AND events.position + 0 < $3
ORDER BY events.position + 0"""


async def texts(db: Reader, log_id: int, stream: str) -> dict[int, str]:
    """Returns the texts of the entries of one stream that stays short, by their positions as
    `read` numbers them; erased texts are left out."""
    found: dict[int, str] = {}
    for segment in await lineage.all_segments(db, log_id):
        args = (segment.log_id, stream, segment.size)
        rows = await db.read(Statement(_STREAM_TEXTS, args))
        found |= {segment.start + position: text for position, text in rows}
    return found


async def read(db: Reader, log_id: int, stream: str) -> EntryPage:
    """Returns all entries of one stream, in order. For streams that stay short: not a device's.
    Entries of the logs that this one continues come first, at positions below 0."""
    entries: EntryPage = []
    for segment in await lineage.all_segments(db, log_id):
        rows = await db.read(of_stream(segment.log_id, stream, segment.size))
        entries += [(segment.start + position, at, text) for position, at, text in rows]
    return entries


def of_stream(log_id: int, stream: str, stop: int = lineage.POSITION_MAX) -> Statement:
    """Reads the entries before `stop` of a stream that stays short, in order; rows are those of an
    `EntryPage`."""
    return Statement(_READ_STREAM, (log_id, stream, stop))

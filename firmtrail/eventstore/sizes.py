"""Finds how large a log was at a time, by bisection: the times of its events never decrease."""

from typing import NamedTuple

from firmtrail.database.database import Reader, Statement
from firmtrail.eventstore import lineage, log

_RECORDED_AT = """\
SELECT recorded_at_ms
FROM events
WHERE log_id = $1 AND position = $2"""


async def recorded_at_ms(db: Reader, log_id: int, position: int) -> int:
    """Returns when the event at a position that the log has was recorded."""
    [[at_ms]] = await db.read(Statement(_RECORDED_AT, (log_id, position)))
    return int(at_ms)


async def at(db: Reader, log_id: int, at_ms: int) -> int:
    """Returns how many events were recorded at or before `at_ms`.

    The result is below 0 for a time before a log that continues others: -n means that the last n
    events before position 0 were recorded later.
    """
    if size := await within(db, log_id, (await log.head(db, log_id)).size, at_ms):
        return size
    segments = lineage.segments_of(await db.read(lineage.segments(log_id)))
    for segment in reversed(segments):
        if size := await within(db, segment.log_id, segment.size, at_ms):
            return segment.start + size
    return segments[0].start if segments else 0


async def within(db: Reader, log_id: int, size: int, at_ms: int) -> int:
    """Returns how many of the first `size` events of a log were recorded at or before `at_ms`."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if await recorded_at_ms(db, log_id, middle) <= at_ms:
            low = middle + 1
        else:
            high = middle
    return low


class LogTotals(NamedTuple):
    """Counts all logs of a database, and their events."""

    logs: int
    events: int


async def totals(reader: Reader) -> LogTotals:
    """Returns how many logs there are, and how many events they have together."""
    text = "SELECT count(*), CAST(coalesce(sum(size), 0) AS bigint) FROM log_heads LIMIT 1"
    [(logs, events)] = await reader.read(Statement(text))
    return LogTotals(int(logs), int(events))

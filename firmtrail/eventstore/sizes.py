"""Finds how large a log was at a time, by bisection: the times of its events never decrease."""

from firmtrail.database.database import Database, Statement
from firmtrail.eventstore import continued, log

_RECORDED_AT = """\
SELECT recorded_at_ms
FROM events
WHERE log_id = $1 AND position = $2"""


async def at(db: Database, log_id: int, at_ms: int) -> int:
    """Returns how many events were recorded at or before `at_ms`.

    Below 0 for a time before a log that continues others: so many of the last were later.
    """
    if size := await _size_at(db, log_id, (await log.head(db, log_id)).size, at_ms):
        return size
    parts = continued.parts_of(await db.read(continued.parts(log_id)))
    for part in reversed(parts):
        if size := await _size_at(db, part.log_id, part.size, at_ms):
            return part.start + size
    return parts[0].start if parts else 0


async def _size_at(db: Database, log_id: int, size: int, at_ms: int) -> int:
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        [[recorded_at_ms]] = await db.read(Statement(_RECORDED_AT, (log_id, middle)))
        if recorded_at_ms <= at_ms:
            low = middle + 1
        else:
            high = middle
    return low

"""Reads the entries of one stream, page by page, each page at a bounded cost.

An index finds a stream's events, but not in their order, and a second index would make every append
slower. So a short stream is read by the index: each page reads all of it, at most
`STREAM_EVENTS_MAX` rows. A longer stream is read by scanning the log itself, a bounded window of
positions at a time.
"""

from collections.abc import AsyncIterator

from firmtrail.database.database import Database, Row, Statement
from firmtrail.eventstore.log import PAGE_ENTRIES, EntryPage

STREAM_EVENTS_MAX = 5_000
WINDOW_POSITIONS = 4_000

_COUNT_SOME = """\
SELECT count(*)
FROM (SELECT 1 AS one FROM events WHERE log_id = $1 AND stream = $2 LIMIT $3) AS found"""

# `position + 0` and `stream || ''` match no column of an index, so each text has only one plan,
# regardless of a planner's estimates.
_READ_BY_INDEX = """\
SELECT position, recorded_at_ms, entry
FROM events
WHERE log_id = $1 AND stream = $2 AND position + 0 >= $3 AND position + 0 < $4
ORDER BY position + 0
LIMIT $5"""

_READ_WINDOW = """\
SELECT position, recorded_at_ms, entry
FROM events
WHERE log_id = $1 AND position >= $2 AND position < $3 AND stream || '' = $4
ORDER BY position
LIMIT $5"""


async def read_stream(
    db: Database, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[EntryPage]:
    """Yields the stream's entries at start <= position < stop, each page by its own query. Pages
    may be empty: they show that the reading continues."""
    is_short = await _count(db, log_id, stream) <= STREAM_EVENTS_MAX
    read = _read_by_index if is_short else _read_by_windows
    async for page in read(db, log_id, stream, start=start, stop=stop):
        yield page


async def _count(db: Database, log_id: int, stream: str) -> int:
    """Returns how many events the stream has, counting no further than one above the maximum."""
    counted = await db.read(Statement(_COUNT_SOME, (log_id, stream, STREAM_EVENTS_MAX + 1)))
    return int(counted[0][0])


async def _read_by_index(
    db: Database, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[EntryPage]:
    while start < stop:
        arguments = (log_id, stream, start, stop, PAGE_ENTRIES)
        page = _page(await db.read(Statement(_READ_BY_INDEX, arguments)))
        yield page
        start = page[-1][0] + 1 if len(page) == PAGE_ENTRIES else stop


async def _read_by_windows(
    db: Database, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[EntryPage]:
    while start < stop:
        end = min(start + WINDOW_POSITIONS, stop)
        arguments = (log_id, start, end, stream, PAGE_ENTRIES)
        page = _page(await db.read(Statement(_READ_WINDOW, arguments)))
        yield page
        start = page[-1][0] + 1 if len(page) == PAGE_ENTRIES else end


def _page(rows: list[Row]) -> EntryPage:
    return [(position, at, text) for position, at, text in rows]

"""Reads the entries of one stream, page by page, each page at a bounded cost, from either end.

A name that ends with "/" stands for all streams that begin with it: "rollout/" for all rollouts. An
index finds a stream's events, but not in their order, and a second index would make every append
slower. So a short stream is read by the index: each page reads all of it, at most
`STREAM_EVENTS_MAX` rows. A longer stream is read by scanning the log itself, a bounded window of
positions at a time.

Each entry of a short stream may be in another file of the archive, if it was pruned. So a page of
such entries is given in pieces, the texts of one after those of the other are read: a reader that
needs the first few waits for their files only.
"""

from collections.abc import AsyncIterator
from itertools import batched
from typing import NamedTuple

from firmtrail.database import stubs
from firmtrail.database.database import Given, Reader, Row, Statement
from firmtrail.eventstore import log
from firmtrail.eventstore.log import ENTRY, PAGE_ENTRIES, EntryPage

STREAM_EVENTS_MAX = 5_000
WINDOW_POSITIONS = 4_000
PIECE_ENTRIES = 64
"""So many entries at most are read from the archive before they are given to the reader."""


class Part(NamedTuple):
    """Holds some entries, the newest first. Every entry at `start` or later, up to the part before
    this one, was looked at."""

    start: int
    entries: EntryPage


_COUNT_SOME = """\
SELECT count(*)
FROM (
    SELECT 1 AS one
    FROM identities
    WHERE log_id = $1 AND stream = $2
    ORDER BY stream
    LIMIT $3) AS found"""

# `position + 0` and `stream || ''` match no column of an index, so each text has only one plan,
# regardless of a planner's estimates.
_READ_BY_INDEX = """\
SELECT position, recorded_at_ms, entry
FROM events_by_stream
WHERE log_id = $1 AND stream = $2 AND position + 0 >= $3 AND position + 0 < $4
ORDER BY position + 0
LIMIT $5"""

_READ_EACH = f"""\
SELECT events.position, events.recorded_at_ms, {stubs.ENTRY}
FROM given CROSS JOIN events
WHERE events.log_id = $1 AND events.position = given.position
ORDER BY events.position
LIMIT $2"""

_READ_WINDOW = f"""\
SELECT position, recorded_at_ms, {stubs.ENTRY}
FROM events
WHERE log_id = $1 AND position >= $2 AND position < $3 AND stream || '' = $4
ORDER BY position
LIMIT $5"""


def _of_many(sql: str) -> str:
    """Returns the same text for all streams that begin with a name that ends with "/"; "0" comes
    next after "/"."""
    of_index = "stream >= $2 AND stream < rtrim($2, '/') || '0'"
    of_window = "stream || '' >= $4 AND stream || '' < rtrim($4, '/') || '0'"
    return sql.replace("stream = $2", of_index).replace("stream || '' = $4", of_window)


_COUNT_SOME_OF_MANY = _of_many(_COUNT_SOME)
_READ_MANY_BY_INDEX = _of_many(_READ_BY_INDEX)
_READ_WINDOW_OF_MANY = _of_many(_READ_WINDOW)


async def newest_first(db: Reader, log_id: int, start: int, stop: int) -> AsyncIterator[Part]:
    """Yields the log's entries at start <= position < stop from the last one down. Raises
    `log.Corrupt` where a position is missing."""
    while start < stop:
        low = max(start, stop - PAGE_ENTRIES)
        rows = await db.read(log.page(log_id, low, stop, PAGE_ENTRIES))
        yield Part(low, log.page_of(log_id, low, rows)[::-1])
        stop = low


async def newest_of_stream(
    db: Reader, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[Part]:
    """Yields the stream's entries at start <= position < stop from the last one down. Parts may be
    empty: they show that the reading continues."""
    if await _count(db, log_id, stream) <= STREAM_EVENTS_MAX:
        pages = [page async for page in _read_by_index(db, log_id, stream, start=start, stop=stop)]
        pieces = _pieces([entry for page in pages for entry in page][::-1])
        for piece in pieces:
            low = start if piece is pieces[-1] else piece[-1][0]
            yield Part(low, await _restored(db, log_id, piece))
        return
    while start < stop:
        low = max(start, stop - WINDOW_POSITIONS)
        pages = [page async for page in _read_by_windows(db, log_id, stream, start=low, stop=stop)]
        yield Part(low, [entry for page in pages for entry in page][::-1])
        stop = low


async def read_stream(
    db: Reader, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[EntryPage]:
    """Yields the stream's entries at start <= position < stop, each page by its own query. Pages
    may be empty: they show that the reading continues."""
    if await _count(db, log_id, stream) > STREAM_EVENTS_MAX:
        async for page in _read_by_windows(db, log_id, stream, start=start, stop=stop):
            yield page
        return
    async for page in _read_by_index(db, log_id, stream, start=start, stop=stop):
        for piece in _pieces(page):
            yield await _restored(db, log_id, piece)


async def _count(db: Reader, log_id: int, stream: str) -> int:
    """Returns how many events the stream has, counting no further than one above the maximum."""
    sql = _COUNT_SOME_OF_MANY if stream.endswith("/") else _COUNT_SOME
    counted = await db.read(Statement(sql, (log_id, stream, STREAM_EVENTS_MAX + 1)))
    return int(counted[0][0])


async def _read_by_index(
    db: Reader, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[EntryPage]:
    """Yields the entries as they are stored."""
    sql = _READ_MANY_BY_INDEX if stream.endswith("/") else _READ_BY_INDEX
    while start < stop:
        arguments = (log_id, stream, start, stop, PAGE_ENTRIES)
        page = _page(await db.read(Statement(sql, arguments)))
        yield page
        start = page[-1][0] + 1 if len(page) == PAGE_ENTRIES else stop


async def _read_by_windows(
    db: Reader, log_id: int, stream: str, *, start: int, stop: int
) -> AsyncIterator[EntryPage]:
    sql = _READ_WINDOW_OF_MANY if stream.endswith("/") else _READ_WINDOW
    while start < stop:
        end = min(start + WINDOW_POSITIONS, stop)
        arguments = (log_id, start, end, stream, PAGE_ENTRIES)
        page = _page(await db.read(Statement(sql, arguments, entry=ENTRY)))
        yield page
        start = page[-1][0] + 1 if len(page) == PAGE_ENTRIES else end


def _pieces(page: EntryPage) -> list[EntryPage]:
    """Divides a page that has pruned entries."""
    if not any(_is_pruned(text) for _, _, text in page):
        return [page]
    return [list(piece) for piece in batched(page, PIECE_ENTRIES)]


async def _restored(db: Reader, log_id: int, piece: EntryPage) -> EntryPage:
    """Returns the entries with their texts in place of their stubs."""
    pruned = [(position,) for position, _, text in piece if _is_pruned(text)]
    if not pruned:
        return piece
    given = Given("position bigint", pruned)
    rows = await db.read(Statement(_READ_EACH, (log_id, len(pruned)), given, entry=ENTRY))
    texts = {position: text for position, _, text in rows}
    assert len(texts) == len(pruned), "the log has each of these positions"
    return [(position, at, texts.get(position, text)) for position, at, text in piece]


def _is_pruned(text: str) -> bool:
    return stubs.parse(text) is not None


def _page(rows: list[Row]) -> EntryPage:
    return [(position, at, text) for position, at, text in rows]

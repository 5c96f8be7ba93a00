"""Reads the rows of a log in a database as they are, without relying on any property of them."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from firmtrail.audit.columns import UNREADABLE
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.database.database import Database, Given, Reader, Row, Statement
from firmtrail.database.entry_archive import Stub
from firmtrail.events.entry import decode
from firmtrail.events.event import Event
from firmtrail.events.log import TextErased
from firmtrail.eventstore import merkle, stored_events
from firmtrail.eventstore.stored_events import StoredEvent

PAGE_EVENTS = 4 * merkle.TILE_WIDTH
PAGE_ROWS = 1_000

_OUTSIDE = {
    table: f"""\
SELECT position
FROM {table}
WHERE log_id = $1 AND position < 0
UNION ALL
SELECT position
FROM {table}
WHERE log_id = $1 AND position >= $2
ORDER BY position
LIMIT 100"""
    for table in ("events", "texts")
}

_SUBTREES = """\
SELECT number, hash
FROM subtrees
WHERE log_id = $1 AND level = $2 AND number >= $3 AND number < $4
ORDER BY number
LIMIT 256"""

_LEVELS = """\
SELECT level, min(number), max(number), count(*)
FROM subtrees
WHERE log_id = $1
GROUP BY level
ORDER BY level
LIMIT 100"""

_ERASED_SINCE = """\
SELECT given.position, events.position, events.entry
FROM given
CROSS JOIN log_heads
CROSS JOIN events_by_stream AS events
WHERE log_heads.project = $1
    AND log_heads.number > $2
    AND events.log_id = log_heads.log_id
    AND events.stream = given.stream"""

_OF_LOGS = ("log_heads", "events", "identities", "texts", "subtrees", "checkpoints", "pruned")
_NEXT_LOG = {
    table: f"SELECT log_id FROM {table} WHERE log_id > $1 ORDER BY log_id LIMIT 1"
    for table in _OF_LOGS
}

_HEAD = """\
SELECT size, frontier, recorded_at_ms, control_count, nudge_count
FROM log_heads
WHERE log_id = $1
LIMIT 1"""

FIRST_LOG_ID = -(1 << 63)


class Unsound(Exception):
    """Says that a log can't be checked, because a column of its head has no meaning."""


class HeadRow(NamedTuple):
    """Holds the row of a log's head."""

    size: int
    frontier: str
    recorded_at_ms: int
    control_count: int
    nudge_count: int


async def head(reader: Reader, log_id: int) -> HeadRow:
    """Returns a log's head. Raises `Unsound`: SQLite accepts a text in an integer column."""
    [row] = await reader.read(Statement(_HEAD, (log_id,)))
    head = HeadRow(*row)
    for name, value in head._asdict().items():
        if name != "frontier" and (not isinstance(value, int) or value < 0):
            raise Unsound(f"{name} is {value!r}")
    return head


async def pages_of_project(
    reader: Reader, text: str, project: str, after: str | int = ""
) -> AsyncIterator[Row]:
    """Yields a project's rows; `text` selects the next $3 whose first column is above $2."""
    while page := await reader.read(Statement(text, (project, after, PAGE_ROWS))):
        for row in page:
            yield row
        after = page[-1][0]


async def runs(
    log: AuditedLog, start: int, stop: int, findings: Findings
) -> AsyncIterator[list[StoredEvent]]:
    """Yields the events at start <= position < stop in runs without a gap; a gap is a finding. The
    entry of one that was pruned is its stub."""
    expected = start
    while expected < stop:
        args = (log.log_id, expected, stop)
        page = await stored_events.page_as_stored(log.db, *args, limit=PAGE_EVENTS)
        for run in without_gaps(page):
            if run[0].position != expected:
                findings.add(log.name, span(expected, run[0].position), "is missing")
            yield run
            expected = run[-1].position + 1
        if not page:
            findings.add(log.name, span(expected, stop), "is missing")
            return


def without_gaps[Placed: (StoredEvent, Stub)](page: Sequence[Placed]) -> Iterator[list[Placed]]:
    """Returns the runs of entries whose positions follow each other."""
    numbered = groupby(enumerate(page), lambda each: each[1].position - each[0])
    return ([each for _, each in run] for _, run in numbered)


def span(start: int, stop: int) -> str:
    return f"position {start}" if stop == start + 1 else f"positions {start} to {stop - 1}"


async def subtrees(log: AuditedLog, level: int, numbers: range) -> dict[int, str]:
    """Returns the stored hashes of a level, by their numbers."""
    args = (log.log_id, level, numbers.start, numbers.stop)
    found = await log.db.read(Statement(_SUBTREES, args))
    return {number: text for number, text in found}  # noqa: C416 (a row is no pair to mypy)


async def find_rows_outside(
    snapshot: Reader, log: AuditedLog, size: int, findings: Findings
) -> None:
    """Adds a finding for each row at a place that a log of this size does not have."""
    for table, text in _OUTSIDE.items():
        for [position] in await snapshot.read(Statement(text, (log.log_id, size))):
            what = f"{table} has a row, but the log has {size} entries"
            findings.add(log.name, f"position {position}", what)
    rows = await snapshot.read(Statement(_LEVELS, (log.log_id,)))
    there = {level: tuple(numbers) for level, *numbers in rows}
    expected = dict(_levels(size))
    for level in sorted(there.keys() | expected.keys(), key=repr):
        if there.get(level) != expected.get(level):
            what = f"(first, last, count) is {there.get(level)}, not {expected.get(level)}"
            findings.add(log.name, f"subtrees (level {level})", what)


def _levels(size: int) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Yields (level, (first, last, count)) of the completed subtrees."""
    level = 1
    while count := size >> merkle.TILE_HEIGHT * level:
        yield level, (0, count - 1, count)
        level += 1


async def find_orphans(db: Database, findings: Findings) -> None:
    """Adds a finding for each table that has rows of a log without a head."""
    heads = set(await _log_ids(db, "log_heads"))
    for table in _NEXT_LOG:
        for log_id in await _log_ids(db, table):
            if log_id not in heads:
                findings.add(f"log_id {log_id}", table, "has rows of a log without a head")


async def _log_ids(db: Database, table: str) -> list[int]:
    """Returns the logs that have rows in a table, with one step in the index for each log."""
    found: list[int] = []
    after = FIRST_LOG_ID
    while rows := await db.read(Statement(_NEXT_LOG[table], (after,))):
        [[after]] = rows
        found.append(after)
    return found


async def erased_since(log: AuditedLog, positions: Iterable[int]) -> set[int]:
    """Returns those of the positions whose text was erased after the project got a newer log."""
    wanted = [(position, f"log/{log.number}/event/{position}") for position in positions]
    given = Given("position bigint, stream text", wanted)
    rows = await log.db.read(Statement(_ERASED_SINCE, (log.project, log.number), given))
    erased = ((at, decoded(position, entry)) for at, position, entry in rows)
    return {at for at, event in erased if event == TextErased(at, log.number)}


def decoded(position: int, entry: str) -> Event | None:
    """Returns the event of an entry; None if it is unreadable, which the columns' check finds."""
    try:
        return decode(position, entry).event
    except UNREADABLE:
        return None

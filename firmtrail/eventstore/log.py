"""Appends to the log and reads it: all SQL that writes `events`, `subtrees`, `texts`, `log_heads`,
except what moving a log between databases needs (moving.py).

A log is a sequence of entries at positions 0, 1, 2 … without gaps. An append keeps the log's head
row locked from `lock` to commit, so there is one order and no position is used twice, on any number
of servers. An entry's text is the truth: it is stored as it was hashed and never encoded again. The
other columns of `events` are an index over it.

`events` has no index of streams and identities on PostgreSQL, where it is divided by positions. So
a statement that looks for these reads `identities`, or `events_by_stream`, which has all columns.
On SQLite both are names of `events`.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

import msgspec

from firmtrail.database import stubs
from firmtrail.database.database import Database, Given, Reader, Row, Statement, Transaction
from firmtrail.eventstore import merkle

ENTRY_BYTES_MAX = 8 * 1024
PAGE_ENTRIES = 1_000
ENTRY = 2
"""The column of an `EntryPage` that has the entries."""

AHEAD_MS_MAX = 5 * 60 * 1000
"""How far the last event's time may be ahead of the clock before appends are refused."""

type EntryPage = list[tuple[int, int, str]]
"""(position, recorded_at_ms, entry text), in the order of their positions."""


class Corrupt(Exception):
    """The log is not what was appended."""


class Head(NamedTuple):
    """Describes the end of a log, which the next append continues."""

    log_id: int
    project: str
    number: int
    """The log's place among its project's logs, from 1."""
    size: int
    frontier: merkle.Frontier
    recorded_at_ms: int
    """The time of the last event; no later event has an earlier one."""
    control_count: int
    """Grows with every event that changes what devices should run."""
    closed: bool
    """A newer log of the project has replaced this one."""
    now_ms: int
    """The log's clock when the head was read: after the lock was acquired, if it was locked."""
    accepted_ms: int = 0
    """The log takes appends up to this `recorded_at_ms`, however far ahead of its clock that is."""

    def refused_until_ms(self) -> int | None:
        """Returns until when appends are refused because the last event is far ahead of the clock;
        None: they are not refused."""
        latest = max(self.now_ms + AHEAD_MS_MAX, self.accepted_ms)
        return self.recorded_at_ms - AHEAD_MS_MAX if self.recorded_at_ms > latest else None


class NewEntry(msgspec.Struct, frozen=True, gc=False):
    """Describes one event to append."""

    stream: str
    event_id: str
    """Unique in its stream."""
    text: str
    """The canonical line: it is hashed, stored and replayed."""
    is_control: bool = False
    is_nudge: bool = False


class ErasableText(NamedTuple):
    """Holds a free text for storage outside the log. The entry at `position` has only its salted
    hash."""

    position: int
    salt: str
    text: str


class RecordedEntry(NamedTuple):
    """Describes an event already recorded; its position is below 0 in a log that this one
    continues."""

    position: int
    recorded_at_ms: int
    text: str
    """The entry; its stub if it was pruned."""


_CREATE = """\
INSERT INTO log_heads (
    log_id, project, number, size, frontier, recorded_at_ms, control_count, nudge_count, closed)
SELECT
    (SELECT coalesce(max(log_id), 0) + 1 FROM log_heads),
    $1,
    (SELECT max(taken.number) + 1
        FROM (
            SELECT number FROM log_heads WHERE project = $1
            UNION ALL
            SELECT CAST($2 AS bigint)) AS taken),
    0, '', $3, 0, 0, 0
WHERE TRUE
ON CONFLICT DO NOTHING
RETURNING log_id"""

_CLOSE = "UPDATE log_heads SET closed = 1 WHERE log_id = $1"

_LOCK = """\
UPDATE log_heads
SET size = size
WHERE log_id = $1
RETURNING
    log_id, project, number, size, frontier, recorded_at_ms, control_count, closed, now_ms(),
    accepted_ms"""

_HEAD = """\
SELECT log_id, project, number, size, frontier, recorded_at_ms, control_count, closed, now_ms(),
    accepted_ms
FROM log_heads
WHERE log_id = $1"""

_ACCEPT = "UPDATE log_heads SET accepted_ms = recorded_at_ms WHERE log_id = $1"

_BY_NUMBER = "SELECT log_id FROM log_heads WHERE project = $1 AND number = $2"

_LOGS = """\
SELECT log_id, project, number, size, frontier, recorded_at_ms, control_count, closed, now_ms(),
    accepted_ms
FROM log_heads
WHERE project = $1 AND number > $2
ORDER BY number
LIMIT $3"""

_NEWEST = """\
SELECT log_id, project, number, size, frontier, recorded_at_ms, control_count, closed, now_ms(),
    accepted_ms
FROM log_heads
WHERE project = $1
ORDER BY number DESC
LIMIT $2"""

_HEADS = """\
SELECT log_heads.log_id, project, number, size, frontier, recorded_at_ms, control_count, closed,
    now_ms(), accepted_ms
FROM given
JOIN log_heads ON log_heads.log_id = given.log_id
ORDER BY log_heads.log_id"""

_COUNT_LOGS = "SELECT count(*) FROM log_heads WHERE project = $1"

_APPEND = """\
INSERT INTO events (log_id, position, stream, event_id, recorded_at_ms, entry)
SELECT $1, given.position, given.stream, given.event_id, $2, given.entry
FROM given
WHERE TRUE"""
"""Inserts in the order given: SQLite's trigger refuses any other; Postgres needs none."""

_APPEND_TEXTS = """\
INSERT INTO texts (log_id, position, salt, text)
SELECT $1, given.position, given.salt, given.text
FROM given
WHERE TRUE"""

_APPEND_SUBTREES = """\
INSERT INTO subtrees (log_id, level, number, hash)
SELECT $1, given.level, given.number, given.hash
FROM given
WHERE TRUE
ORDER BY given.level, given.number"""

_MOVE_HEAD = """\
UPDATE log_heads
SET size = $2,
    frontier = $3,
    recorded_at_ms = $4,
    control_count = control_count + $5,
    nudge_count = nudge_count + $6
WHERE log_id = $1"""

_FIND = """\
SELECT given.n, events.position, events.recorded_at_ms, events.entry
FROM given
CROSS JOIN events_by_stream AS events
WHERE events.log_id = $1
    AND events.stream = given.stream
    AND events.event_id = given.event_id"""

_READ = f"""\
SELECT position, recorded_at_ms, {stubs.ENTRY}
FROM events
WHERE log_id = $1 AND position >= $2 AND position < $3
ORDER BY position
LIMIT $4"""

_STREAMS = """\
SELECT DISTINCT stream
FROM events
WHERE log_id = $1 AND position >= $2 AND position < $3
ORDER BY stream
LIMIT $4"""

_READ_OLD = f"""\
SELECT continued.start + events.position, events.recorded_at_ms, {stubs.ENTRY}
FROM continued
CROSS JOIN events
WHERE continued.log_id = $1
    AND events.log_id = continued.old_log_id
    AND events.position >= 0
    AND events.position < continued.size
    AND events.position >= $2 - continued.start
    AND events.position < $3 - continued.start
ORDER BY continued.start + events.position"""

_ERASE_TEXT = "DELETE FROM texts WHERE log_id = $1 AND position = $2 RETURNING position, text"


async def create(tx: Transaction, project: str, *, above: int = 0, recorded_at_ms: int = 0) -> int:
    """Creates a new, empty log of the project, with its next number, which is greater than `above`.
    Its first event is not recorded before `recorded_at_ms`."""
    rows: list[Row] = []
    while not rows:  # else another transaction took this number, and has ended by now
        [rows] = await tx.run(Statement(_CREATE, (project, above, recorded_at_ms)))
    return int(rows[0][0])


def close(log_id: int) -> Statement:
    """Ends a log that a newer one replaces: it stays readable, and refuses appends."""
    return Statement(_CLOSE, (log_id,))


def lock(log_id: int) -> Statement:
    """Locks the head row until the transaction ends; `head_of` takes the rows. Run it alone: a
    statement that waits for the lock and reads more reads from a snapshot older than the lock."""
    return Statement(_LOCK, (log_id,))


async def head(db: Reader, log_id: int) -> Head:
    """Returns the end of the log now, without locking it."""
    return head_of(await db.read(Statement(_HEAD, (log_id,))))


def accept_clock(log_id: int) -> Statement:
    """Makes a locked log take appends although its last event is far ahead of the clock."""
    return Statement(_ACCEPT, (log_id,))


async def by_number(db: Reader, project: str, number: int) -> int | None:
    """Returns the log with this number among its project's; None where there is none."""
    rows = await db.read(Statement(_BY_NUMBER, (project, number)))
    return int(rows[0][0]) if rows else None


async def logs(db: Reader, project: str, *, after: int, limit: int) -> list[Head]:
    """Returns the project's logs after the number `after`, in the order of their numbers."""
    return [head_of([row]) for row in await db.read(Statement(_LOGS, (project, after, limit)))]


async def newest(db: Reader, project: str, *, limit: int = 1) -> list[Head]:
    """Returns the project's newest logs, the newest first."""
    return [head_of([row]) for row in await db.read(Statement(_NEWEST, (project, limit)))]


async def heads(db: Reader, log_ids: Iterable[int]) -> list[Head]:
    """Returns the ends of these logs now, in the order of their ids."""
    given = Given("log_id bigint", [(log_id,) for log_id in sorted(set(log_ids))])
    return [head_of([row]) for row in await db.read(Statement(_HEADS, (), given))]


async def count_logs(db: Reader, project: str) -> int:
    [[found]] = await db.read(Statement(_COUNT_LOGS, (project,)))
    return int(found)


def head_of(rows: Sequence[Row]) -> Head:
    [row] = rows
    head = Head(*row)
    return head._replace(frontier=merkle.from_text(row[4]), closed=bool(head.closed))


class AfterAppend(NamedTuple):
    """Holds a log's new end, and the subtrees that the append completed."""

    head: Head
    completed: list[merkle.Subtree]


def after_append(head: Head, entries: Sequence[NewEntry], recorded_at_ms: int) -> AfterAppend:
    """Returns the head after these entries, and the subtrees that they complete."""
    leaves = (merkle.leaf_hash(entry.text.encode()) for entry in entries)
    frontier, completed = merkle.extend(head.frontier, head.size, leaves)
    after = head._replace(
        size=head.size + len(entries),
        frontier=frontier,
        recorded_at_ms=recorded_at_ms,
        control_count=head.control_count + sum(entry.is_control for entry in entries),
    )
    return AfterAppend(after, completed)


def append(
    head: Head, entries: Sequence[NewEntry], texts: Sequence[ErasableText], recorded_at_ms: int
) -> list[Statement]:
    """Writes the entries after `head`, which the transaction has locked, and moves the head."""
    assert all(len(entry.text) <= ENTRY_BYTES_MAX for entry in entries)
    rows = [
        (position, entry.stream, entry.event_id, entry.text)
        for position, entry in enumerate(entries, start=head.size)
    ]
    given = Given("position bigint, stream text, event_id text, entry text", rows)
    return [
        Statement(_APPEND, (head.log_id, recorded_at_ms), given),
        *move_head(head, entries, recorded_at_ms),
        *append_texts(head.log_id, texts),
    ]


def move_head(head: Head, entries: Sequence[NewEntry], recorded_at_ms: int) -> list[Statement]:
    """Moves the head past these entries, and writes the subtrees that they complete."""
    after, completed = after_append(head, entries, recorded_at_ms)
    args = (
        *(head.log_id, after.size, merkle.to_text(after.frontier), recorded_at_ms),
        after.control_count - head.control_count,
        sum(entry.is_nudge for entry in entries),
    )
    moved = [Statement(_MOVE_HEAD, args)]
    return [*moved, _append_subtrees(head.log_id, completed)] if completed else moved


def append_texts(log_id: int, texts: Sequence[ErasableText]) -> list[Statement]:
    given = Given("position bigint, salt text, text text", texts)
    return [Statement(_APPEND_TEXTS, (log_id,), given)] if texts else []


def _append_subtrees(log_id: int, completed: Iterable[merkle.Subtree]) -> Statement:
    rows = [(level, number, node.hex()) for level, number, node in completed]
    given = Given("level bigint, number bigint, hash text", rows)
    return Statement(_APPEND_SUBTREES, (log_id,), given)


def find(log_id: int, identities: Iterable[tuple[str, str]]) -> Statement:
    """Finds the events recorded under these (stream, event id); `recorded_entries` takes the
    rows. The text of a pruned entry is its stub: a transaction may not wait for an archive."""
    rows = [(n, stream, event_id) for n, (stream, event_id) in enumerate(identities)]
    return Statement(_FIND, (log_id,), Given("n bigint, stream text, event_id text", rows))


def recorded_entries(
    identities: Sequence[tuple[str, str]], rows: Iterable[Row]
) -> dict[tuple[str, str], RecordedEntry]:
    return {
        identities[n]: RecordedEntry(position, recorded_at_ms, text)
        for n, position, recorded_at_ms, text in rows
    }


def erase_text(log_id: int, position: int) -> Statement:
    """Deletes the free text of an event and its salt; gives (position, text) if there was one."""
    return Statement(_ERASE_TEXT, (log_id, position))


def page(log_id: int, start: int, stop: int, entries_max: int) -> Statement:
    """Reads the first entries at start <= position < stop; `page_of` takes the rows. Positions
    below 0, from `lineage.first_position` on, are in the logs that this one continues."""
    if start < 0:
        args = (log_id, start, min(start + entries_max, stop, 0))
        return Statement(_READ_OLD, args, entry=ENTRY)
    return Statement(_READ, (log_id, start, stop, entries_max), entry=ENTRY)


def page_of(log_id: int, start: int, rows: Sequence[Row]) -> EntryPage:
    """Returns at least one entry, from `start` on. Raises `Corrupt` where a position is missing."""
    if not rows or rows[0][0] != start or rows[-1][0] != start + len(rows) - 1:
        raise Corrupt(f"log {log_id}: position {start} or one after it is missing")
    return [(position, at, text) for position, at, text in rows]


async def read(db: Reader, log_id: int, start: int, stop: int) -> AsyncIterator[EntryPage]:
    """Yields the entries at start <= position < stop, a page at a time. Each page is a query of its
    own, so a slow reader keeps no snapshot. Raises `Corrupt` where a position is missing."""
    while start < stop:
        entries = page_of(log_id, start, await db.read(page(log_id, start, stop, PAGE_ENTRIES)))
        yield entries
        start += len(entries)


async def streams(db: Database, log_id: int, start: int, stop: int) -> frozenset[str]:
    """Returns the streams that the entries at start <= position < stop belong to."""
    rows = await db.read(Statement(_STREAMS, (log_id, start, stop, stop - start)))
    return frozenset(stream for [stream] in rows)

"""Copies logs between databases byte for byte, and closes a log for a move. Holds all SQL for that.

A copy is appended in order, as any entry, under the lock of the copy's head: so its tree is
computed from the copied entries, and equals the original's if and only if they do. A copy that ends
early is continued where it ends, because what is there is a beginning of the original.

The column `closed` of a log's head says more than that the log takes no appends:

- `CLOSED`: a newer log of the project replaced it; or, of the newest log, the project is being
  moved away from here, or is still arriving.
- `MOVED`: the project was moved away, and is served at the address in the log's last event.
- `GIVEN_UP`: the log of an arrival that was undone; nothing ever opens it again.
"""

from collections.abc import Sequence

from firmtrail.database.database import Given, Reader, Row, Statement, Transaction
from firmtrail.eventstore import log, stored_events
from firmtrail.eventstore.log import ErasableText, Head, NewEntry
from firmtrail.eventstore.stored_events import StoredEvent

OPEN, CLOSED, MOVED, GIVEN_UP = range(4)
PAGE_ENTRIES = 1_000
PAGE_PROJECTS = 1_000

_SET_CLOSED = "UPDATE log_heads SET closed = $2 WHERE log_id = $1"

_CLOSED = "SELECT closed FROM log_heads WHERE log_id = $1"

_ADD_COPY = """\
INSERT INTO log_heads (
    log_id, project, number, size, frontier, recorded_at_ms, control_count, nudge_count, closed)
SELECT coalesce(max(log_id), 0) + 1, CAST($1 AS text), CAST($2 AS bigint), 0, '', 0, 0, 0, 1
FROM log_heads
WHERE TRUE
ON CONFLICT DO NOTHING"""

_COPY = """\
INSERT INTO events (log_id, position, stream, event_id, recorded_at_ms, entry)
SELECT $1, given.position, given.stream, given.event_id, given.recorded_at_ms, given.entry
FROM given
WHERE TRUE"""

_TEXTS = """\
SELECT position, salt, text
FROM texts
WHERE log_id = $1 AND position > $2
ORDER BY position
LIMIT $3"""

_ADD_TEXTS = """\
INSERT INTO texts (log_id, position, salt, text)
SELECT $1, given.position, given.salt, given.text
FROM given
WHERE TRUE
ON CONFLICT DO NOTHING"""

_DELETE_TEXTS = "DELETE FROM texts WHERE log_id = $1"

_LEAVING = """\
SELECT projects.project, log_heads.closed, events.entry
FROM projects
JOIN log_heads ON log_heads.log_id = projects.log_id
JOIN events ON events.log_id = log_heads.log_id AND events.position = log_heads.size - 1
WHERE log_heads.closed <> 0 AND projects.project > $1
ORDER BY projects.project
LIMIT $2"""


def set_closed(log_id: int, state: int) -> Statement:
    """Writes one of the states above; the transaction has locked the head."""
    return Statement(_SET_CLOSED, (log_id, state))


async def closed_state(reader: Reader, log_id: int) -> int:
    [[state]] = await reader.read(Statement(_CLOSED, (log_id,)))
    return int(state)


def closed(log_id: int) -> Statement:
    """Reads the state of a log in a transaction: one row with one column."""
    return Statement(_CLOSED, (log_id,))


def add_copy(project: str, number: int) -> Statement:
    """Adds an empty, closed log with this number, unless the project has one. If another log took
    the log's id meanwhile, nothing is added: the caller looks, and tries again."""
    return Statement(_ADD_COPY, (project, number))


async def page(reader: Reader, log_id: int, start: int, stop: int) -> list[StoredEvent]:
    """Returns the next rows of a log. Raises `log.Corrupt` if a position is missing."""
    found = await stored_events.page(reader, log_id, start, stop, limit=PAGE_ENTRIES)
    if [each.position for each in found] != list(range(start, start + len(found))) or not found:
        raise log.Corrupt(f"the events from position {start} on are not all in the database")
    return found


def copy(head: Head, rows: Sequence[StoredEvent], entries: Sequence[NewEntry]) -> list[Statement]:
    """Appends these rows after `head`, which the transaction has locked. `entries` are the same
    events, with what the head counts."""
    given = Given(
        "position bigint, recorded_at_ms bigint, stream text, event_id text, entry text",
        [row[:5] for row in rows],
    )
    texts = [
        ErasableText(row.position, row.salt, row.text)
        for row in rows
        if row.salt is not None and row.text is not None
    ]
    return [
        Statement(_COPY, (head.log_id,), given),
        *log.move_head(head, entries, rows[-1].recorded_at_ms),
        *log.append_texts(head.log_id, texts),
    ]


async def texts(reader: Reader, log_id: int, *, after: int) -> list[ErasableText]:
    """Returns the next free texts of a log, in the order of their positions."""
    rows = await reader.read(Statement(_TEXTS, (log_id, after, PAGE_ENTRIES)))
    return [ErasableText(*row) for row in rows]


def add_texts(log_id: int, found: Sequence[ErasableText]) -> Statement:
    """Adds the texts that the copy has not, below its size."""
    given = Given("position bigint, salt text, text text", found)
    return Statement(_ADD_TEXTS, (log_id,), given)


def delete_texts(log_id: int) -> Statement:
    """Deletes all free texts of a copy that nobody needs; its entries and its root stay."""
    return Statement(_DELETE_TEXTS, (log_id,))


async def locked(tx: Transaction, log_id: int) -> tuple[Head, int]:
    """Locks the head of a log, and returns it with its state."""
    [heads] = await tx.run(log.lock(log_id))
    [[[state]]] = await tx.run(closed(log_id))
    return log.head_of(heads), int(state)


async def leaving(reader: Reader) -> list[Row]:
    """Returns (project, state, last entry) of all projects whose newest log is closed, by name."""
    found: list[Row] = []
    after = ""
    while page := await reader.read(Statement(_LEAVING, (after, PAGE_PROJECTS))):
        found += page
        after = page[-1][0]
    return found

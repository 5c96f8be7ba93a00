"""Reads and writes the table `checkpoints`, and finds logs that grew since their last checkpoint.

A row is a checkpoint that anybody may have seen. Rows are added only by the publisher
(publisher.py); a log has at most one row of each size. A trigger of the table thins them out: of
the checkpoints that are 4096 events old, only the last of each block of 256 events stays
(docs/checkpoints.md names an exception). It covers the others, and signing is deterministic: a
caller that asks for a size whose row is gone gets the same note again. All other SQL on
`checkpoints` is here.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Reader, Row, Statement, Value
from firmtrail.eventstore import merkle
from firmtrail.publishing import arrivals
from firmtrail.publishing.checkpoint import Checkpoint
from firmtrail.publishing.minimum_sizes import LogName

PAGE_LOGS = 500

_STATE = """\
SELECT
    log_heads.log_id, log_heads.project, log_heads.number, log_heads.size, log_heads.frontier,
    log_heads.closed,
    coalesce((
        SELECT max(events.position) + 1
        FROM events
        WHERE events.log_id = log_heads.log_id), 0),
    coalesce((
        SELECT max(checkpoints.size)
        FROM checkpoints
        WHERE checkpoints.log_id = log_heads.log_id), 0)
"""

_ALL = f"""\
{_STATE}FROM log_heads
WHERE log_heads.log_id > $1
ORDER BY log_heads.log_id
LIMIT $2"""

_UNPUBLISHED = f"""\
{_STATE}FROM log_heads
WHERE log_heads.log_id > $1
    AND log_heads.size > coalesce((
        SELECT max(newest.size)
        FROM checkpoints AS newest
        WHERE newest.log_id = log_heads.log_id), 0)
    AND {arrivals.SIGNED_HERE}
ORDER BY log_heads.log_id
LIMIT $2"""

_NAMED = f"""\
{_STATE}FROM given
CROSS JOIN log_heads
WHERE log_heads.project = given.project AND log_heads.number = given.number"""

_INSERT = """\
INSERT INTO checkpoints (log_id, size, note)
SELECT given.log_id, given.size, given.note
FROM given
WHERE NOT EXISTS (
    SELECT 1
    FROM checkpoints AS there
    WHERE there.log_id = given.log_id AND there.size = given.size)
ON CONFLICT DO NOTHING"""

_LATEST = """\
SELECT given.n, checkpoints.size, checkpoints.note
FROM given
CROSS JOIN checkpoints
WHERE checkpoints.log_id = given.log_id
    AND checkpoints.size = (
        SELECT max(newest.size)
        FROM checkpoints AS newest
        WHERE newest.log_id = given.log_id)
ORDER BY given.n"""

_OF_SIZE = "SELECT size, note FROM checkpoints WHERE log_id = $1 AND size = $2"

_PAGE = """\
SELECT size, note
FROM checkpoints
WHERE log_id = $1 AND size < $2
ORDER BY size DESC
LIMIT $3"""

_AFTER = """\
SELECT size, note
FROM checkpoints
WHERE log_id = $1 AND size > $2
ORDER BY size
LIMIT $3"""

_COUNT = "SELECT count(*) FROM checkpoints WHERE log_id = $1"


class LogState(NamedTuple):
    """Describes how far a log is in the database, and how much of it is published."""

    log_id: int
    name: LogName
    size: int
    """The size that its head states."""
    frontier: merkle.Frontier
    is_closed: bool
    stored: int
    """The number of events that its last stored event shows."""
    published: int
    """The size of its last checkpoint in the database; 0: none."""


class PublishedNote(NamedTuple):
    """Holds a checkpoint as it is served."""

    size: int
    note: str


class SignedCheckpoint(NamedTuple):
    """Holds a checkpoint with the note that signs it."""

    checkpoint: Checkpoint
    note: str


def all_logs(db: Database) -> AsyncIterator[list[LogState]]:
    """Yields all logs, a page at a time."""
    return _pages(db, _ALL)


def unpublished_logs(db: Database) -> AsyncIterator[list[LogState]]:
    """Yields the logs whose head is ahead of their last checkpoint, a page at a time."""
    return _pages(db, _UNPUBLISHED)


async def _pages(db: Database, text: str) -> AsyncIterator[list[LogState]]:
    page = _states(await db.read(Statement(text, (0, PAGE_LOGS))))
    yield page
    while len(page) == PAGE_LOGS:
        page = _states(await db.read(Statement(text, (page[-1].log_id, PAGE_LOGS))))
        yield page


async def named_logs(db: Database, names: Sequence[LogName]) -> list[LogState]:
    given = Given("project text, number bigint", names)
    return _states(await db.read(Statement(_NAMED, (), given)))


def _states(rows: Iterable[Row]) -> list[LogState]:
    return [
        LogState(
            log_id,
            LogName(project, number),
            size,
            merkle.from_text(frontier),
            bool(closed),
            stored,
            published,
        )
        for log_id, project, number, size, frontier, closed, stored, published in rows
    ]


def insert(rows: Sequence[tuple[int, int, str]]) -> Statement:
    """Adds rows of (log_id, size, note). A row that exists for a size stays as it is."""
    return Statement(_INSERT, (), Given("log_id bigint, size bigint, note text", rows))


def latest(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """Reads the last checkpoint of each (log_id,). `checkpoint_of` takes the columns after `n`."""
    given = Given("n bigint, log_id bigint", [(n, *key) for n, key in enumerate(keys)])
    return Statement(_LATEST, (), given)


def checkpoint_of(rows: Sequence[Row]) -> PublishedNote | None:
    return PublishedNote(*rows[0]) if rows else None


async def of_size(db: Database, log_id: int, size: int) -> PublishedNote | None:
    """Returns the checkpoint of this size, if one was published."""
    return checkpoint_of(await db.read(Statement(_OF_SIZE, (log_id, size))))


async def page(db: Reader, log_id: int, *, below: int, limit: int) -> list[PublishedNote]:
    """Returns the checkpoints of sizes below this one, the largest first."""
    return [PublishedNote(*row) for row in await db.read(Statement(_PAGE, (log_id, below, limit)))]


async def after(db: Reader, log_id: int, size: int, *, limit: int) -> list[PublishedNote]:
    """Returns the checkpoints of sizes above this one, the smallest first."""
    return [PublishedNote(*row) for row in await db.read(Statement(_AFTER, (log_id, size, limit)))]


async def count(db: Reader, log_id: int) -> int:
    [[checkpoints]] = await db.read(Statement(_COUNT, (log_id,)))
    return int(checkpoints)

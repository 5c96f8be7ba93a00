"""Which checkpoints are published, and which logs moved since? All SQL of `checkpoints`.

A row is a checkpoint that anybody may have seen. Rows are only added, and only by the publisher
(publisher.py); a log has at most one of each size.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Row, Statement, Value
from firmtrail.eventstore import merkle
from firmtrail.publishing.checkpoint import Checkpoint
from firmtrail.publishing.minimum_sizes import LogName

PAGE_LOGS = 500

_STANDING = """\
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
{_STANDING}FROM log_heads
WHERE log_heads.log_id > $1
ORDER BY log_heads.log_id
LIMIT $2"""

_MOVED = f"""\
{_STANDING}FROM log_heads
WHERE log_heads.log_id > $1
    AND log_heads.size > coalesce((
        SELECT max(newest.size)
        FROM checkpoints AS newest
        WHERE newest.log_id = log_heads.log_id), 0)
ORDER BY log_heads.log_id
LIMIT $2"""

_NAMED = f"""\
{_STANDING}FROM given
CROSS JOIN log_heads
WHERE log_heads.project = given.project AND log_heads.number = given.number"""

_ADD = """\
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

_ONE = "SELECT size, note FROM checkpoints WHERE log_id = $1 AND size = $2"

_PAGE = """\
SELECT size, note
FROM checkpoints
WHERE log_id = $1 AND size < $2
ORDER BY size DESC
LIMIT $3"""

_COUNT = "SELECT count(*) FROM checkpoints WHERE log_id = $1"


class Standing(NamedTuple):
    """How far a log has come in the database."""

    log_id: int
    name: LogName
    size: int
    """As its head says."""
    frontier: merkle.Frontier
    is_closed: bool
    stored: int
    """How many events it has, as its last one says."""
    published: int
    """The size of its last checkpoint in the database; 0: none."""


class Published(NamedTuple):
    """A checkpoint as everybody gets it."""

    size: int
    note: str


class Signed(NamedTuple):
    """A checkpoint with the note that signs it."""

    checkpoint: Checkpoint
    note: str


async def every(db: Database) -> AsyncIterator[list[Standing]]:
    """All logs, a page at a time."""
    async for page in _pages(db, _ALL):
        yield page


async def moved(db: Database) -> AsyncIterator[list[Standing]]:
    """The logs whose head is ahead of their last checkpoint, a page at a time."""
    async for page in _pages(db, _MOVED):
        yield page


async def _pages(db: Database, text: str) -> AsyncIterator[list[Standing]]:
    page = _standings(await db.read(Statement(text, (0, PAGE_LOGS))))
    yield page
    while len(page) == PAGE_LOGS:
        page = _standings(await db.read(Statement(text, (page[-1].log_id, PAGE_LOGS))))
        yield page


async def named(db: Database, names: Sequence[LogName]) -> list[Standing]:
    """Those of these logs that the database has."""
    given = Given("project text, number bigint", names)
    return _standings(await db.read(Statement(_NAMED, (), given)))


def _standings(rows: Iterable[Row]) -> list[Standing]:
    return [
        Standing(
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


def add(rows: Sequence[tuple[int, int, str]]) -> Statement:
    """Rows of (log_id, size, note); a size that is there already stays as it is."""
    return Statement(_ADD, (), Given("log_id bigint, size bigint, note text", rows))


def latest(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """For each (log_id,) the last checkpoint; read what stands behind its `n` with `found`."""
    given = Given("n bigint, log_id bigint", [(n, *key) for n, key in enumerate(keys)])
    return Statement(_LATEST, (), given)


def found(rows: Sequence[Row]) -> Published | None:
    return Published(*rows[0]) if rows else None


async def one(db: Database, log_id: int, size: int) -> Published | None:
    """The checkpoint of this size, if one was published."""
    return found(await db.read(Statement(_ONE, (log_id, size))))


async def page(db: Database, log_id: int, *, below: int, limit: int) -> list[Published]:
    """The checkpoints of sizes below this one, the largest first."""
    return [Published(*row) for row in await db.read(Statement(_PAGE, (log_id, below, limit)))]


async def count(db: Database, log_id: int) -> int:
    [[checkpoints]] = await db.read(Statement(_COUNT, (log_id,)))
    return int(checkpoints)

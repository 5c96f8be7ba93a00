"""Records which actor read which part of a log, or exported a list, and when. Holds all SQL of
`access_record` and `access_heads`.

A read is recorded before the first byte of its answer is sent. So a crash can leave a record of a
read that was never answered, but never a read without its record. If the database can't record a
read, the read is refused. Reads that begin together are written together.

The records of a project form a chain (`eventstore/chain.py`): each has its position, and the same
transaction moves the head of the chain. It locks the row of the head first, so the records of
several servers follow each other. From time to time the log records the head
(commands/access_record.py).

A record names its reader by an actor id of the log, and the network address of the request. It
holds the parsed query of the request and no header: so no secret and no e-mail address.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cachetools import LRUCache, TTLCache

from firmtrail.access.batches import BatchWriter
from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import (
    Database,
    Given,
    Reader,
    Script,
    Statement,
    Unavailable,
    Value,
)
from firmtrail.eventstore import chain

AGAIN_AFTER_S = 60
REMEMBERED_MAX = 10_000
WAITING_MAX = 10_000
BATCH_READS_MAX = 500
DELETE_ROWS_MAX = 1_000
"""The rows of a transaction."""
DELETE_BATCHES_MAX = 100
SCAN_ROWS = 10_000
END_MS = 2**53
"""A time later than any record can have."""


class Read(NamedTuple):
    """Describes a read when it begins."""

    project: str
    at_ms: int
    request_id: str
    actor: str
    path: str
    """The path below the project's path."""
    asked: str
    """The parsed query, as a JSON object."""
    address: str | None = None
    """The network address of the reader; None: an older version recorded none."""


class ChainHead(NamedTuple):
    """Describes the end of a project's chain of records."""

    size: int
    head: str


type Heads = Mapping[str, ChainHead]
"""By project."""
type RecordRow = tuple[Value, ...]


class ReadFilter(NamedTuple):
    """Selects records with since_ms <= at_ms < until_ms, of one actor or of all."""

    project: str
    since_ms: int = 0
    until_ms: int = END_MS
    actor: str | None = None


_GROW = """\
INSERT INTO access_heads (project, size, head, sealed)
SELECT given.project, given.records, '', 0
FROM given
WHERE TRUE
ON CONFLICT (project) DO UPDATE
SET size = access_heads.size + excluded.size
RETURNING project, size, head"""
"""Also locks the heads, in the given order, so two servers never deadlock."""

_INSERT = """\
INSERT INTO access_record (seq, project, at_ms, request_id, actor, path, asked, address)
SELECT
    given.seq, given.project, given.at_ms, given.request_id, given.actor, given.path, given.asked,
    given.address
FROM given
WHERE TRUE"""

_COLUMNS = (
    "seq bigint, project text, at_ms bigint, request_id text, actor text, path text, asked text, "
    "address text"
)

_MOVE_HEADS = """\
INSERT INTO access_heads (project, size, head, sealed)
SELECT given.project, 0, given.head, 0
FROM given
WHERE TRUE
ON CONFLICT (project) DO UPDATE
SET head = excluded.head"""

_MOVE_KNOWN = """\
UPDATE access_heads
SET size = $4, head = $5
WHERE project = $1 AND size = $2 AND head = $3
RETURNING size"""

_UNSEALED = """\
SELECT size, head
FROM access_heads
WHERE project = $1 AND size > sealed"""

_GROWN = """\
SELECT given.n
FROM given
JOIN access_heads ON access_heads.project = given.project
WHERE access_heads.size > access_heads.sealed"""

_ARRIVE = """\
INSERT INTO access_heads (project, size, head, sealed)
VALUES ($1, $2, $3, $2)
ON CONFLICT (project) DO UPDATE SET
    size = excluded.size,
    head = excluded.head,
    sealed = excluded.sealed"""

_NOTE_SEALED = "UPDATE access_heads SET sealed = $2 WHERE project = $1"

_TO_SEAL = """\
SELECT projects.log_id
FROM access_heads
JOIN projects ON projects.project = access_heads.project
JOIN log_heads ON log_heads.log_id = projects.log_id
JOIN access_record
    ON access_record.project = access_heads.project
    AND access_record.seq = access_heads.sealed
WHERE access_heads.size > access_heads.sealed
    AND access_record.at_ms <= $1
    AND log_heads.closed = 0
ORDER BY projects.log_id
LIMIT 10000"""

_FIRST_NEWER = """\
SELECT min(seq)
FROM access_record
WHERE project = $1 AND seq >= $3 AND seq < $4 AND at_ms + 0 >= $2"""
"""`at_ms + 0`: the rows are found by their positions. The index by time has all newer rows."""

_FIRST = """\
SELECT coalesce(min(seq), CAST($2 AS bigint))
FROM access_record
WHERE project = $1 AND seq >= 0"""

_TRY_DELETE = "DELETE FROM access_record WHERE project = $1 AND seq < 0 AND seq > 0 RETURNING seq"

_DELETE = """\
DELETE FROM access_record
WHERE project = $1 AND seq >= $2 AND seq < $3
RETURNING seq"""

_PAGE = """\
SELECT project, at_ms, request_id, actor, path, asked, address
FROM access_record
WHERE project = $1 AND at_ms >= $2 AND (at_ms, request_id) < ($3, $4)
ORDER BY at_ms DESC, request_id DESC
LIMIT $5"""

_PAGE_OF_ACTOR = _PAGE.replace("project = $1", "project = $1 AND actor = $6")

_COUNT = """\
SELECT count(*)
FROM access_record
WHERE project = $1 AND at_ms >= $2 AND at_ms < $3"""

_COUNT_OF_ACTOR = f"{_COUNT} AND actor = $4"


class Reads:
    """Writes the access record for one process; nothing else writes it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._writer: BatchWriter[Read] = BatchWriter(self._write, BATCH_READS_MAX)
        self._heads: LRUCache[str, ChainHead] = LRUCache(REMEMBERED_MAX)
        """As last written by this process, by project."""
        self._remembered: TTLCache[tuple[str, ...], None] = TTLCache(REMEMBERED_MAX, AGAIN_AFTER_S)
        self._grown: Coalescer[tuple[str]] = Coalescer(db, _grown)

    async def add(self, read: Read) -> None:
        """Records a read; returns when it is durable. Raises `Unavailable`: then refuse it."""
        if len(self._writer.waiting) >= WAITING_MAX:
            raise Unavailable("too many reads wait to be recorded")
        await self._writer.add(read)

    async def add_once_a_minute(self, read: Read) -> None:
        """Does the same as `add`, for files that a client fetches by the thousand: a read with the
        same actor, path, address and `asked` is recorded once a minute by this process.
        """
        key = (read.project, read.actor, read.path, read.asked, read.address or "")
        if key not in self._remembered:
            await self.add(read)
            self._remembered[key] = None

    async def has_grown(self, project: str) -> bool:
        """Returns whether there are records that no seal covers."""
        return bool(await self._grown.get((project,)))

    async def _write(self, batch: Sequence[Read]) -> None:
        projects = {read.project for read in batch}
        known = {name: head for name in projects if (head := self._heads.get(name))}
        self._heads.update(await self._db.play(record_reads, batch, known))


def record_reads(batch: Sequence[Read], known: Heads) -> Script[Heads]:
    """Appends the reads to the chains of their projects, and returns the new heads.

    `known` holds heads as this process last wrote them. A batch of one project, the usual one,
    moves such a head with a single statement, unless another server has moved it since.
    """
    projects = {read.project for read in batch}
    if len(projects) == 1 and (before := known.get(batch[0].project)):
        after, rows = _extended(before, batch)
        [moved] = yield [Statement(_MOVE_KNOWN, (batch[0].project, *before, *after))]
        if moved:
            yield [Statement(_INSERT, (), Given(_COLUMNS, rows))]
            return {batch[0].project: after}
    records = sorted(Counter(read.project for read in batch).items())
    [grown] = yield [Statement(_GROW, (), Given("project text, records bigint", records))]
    heads: dict[str, ChainHead] = {}
    inserted: list[RecordRow] = []
    for project, size, head in grown:
        own = [read for read in batch if read.project == project]
        heads[project], rows = _extended(ChainHead(size - len(own), head), own)
        inserted += rows
    moved_heads = [(project, after.head) for project, after in heads.items()]
    yield [
        Statement(_INSERT, (), Given(_COLUMNS, inserted)),
        Statement(_MOVE_HEADS, (), Given("project text, head text", moved_heads)),
    ]
    return heads


def _extended(before: ChainHead, reads: Sequence[Read]) -> tuple[ChainHead, list[RecordRow]]:
    """Returns the head after the reads, and their rows."""
    rows: list[RecordRow] = [(seq, *read) for seq, read in enumerate(reads, before.size)]
    return ChainHead(before.size + len(rows), chain.extended(before.head, rows)), rows


def _grown(keys: Sequence[tuple[str]]) -> Statement:
    given = Given("n bigint, project text", [(n, *key) for n, key in enumerate(keys)])
    return Statement(_GROWN, (), given)


def unsealed(project: str) -> Statement:
    """Gives the size and the head of the project's chain, if it has grown since the last seal."""
    return Statement(_UNSEALED, (project,))


def note_sealed(project: str, size: int) -> Statement:
    """Notes that the log has recorded the head after `size` records."""
    return Statement(_NOTE_SEALED, (project, size))


def arrive(project: str, sealed: ChainHead) -> Statement:
    """Makes the chain of a project that was moved here continue after its last seal."""
    return Statement(_ARRIVE, (project, *sealed))


async def logs_to_seal(db: Database, before_ms: int) -> list[int]:
    """Returns the newest logs of projects that have an unsealed record from before this time. A log
    that is closed for a move takes no seal."""
    return [log_id for [log_id] in await db.read(Statement(_TO_SEAL, (before_ms,)))]


async def old(db: Database, project: str, before_ms: int, stop: int) -> int:
    """Returns how many of the first `stop` rows come before the first that is not older than this
    time. It looks at `SCAN_ROWS` at a time, as no index has both the position and the time."""
    for start in range(await first(db, project, stop), stop, SCAN_ROWS):
        place = (start, min(stop, start + SCAN_ROWS))
        [[newer]] = await db.read(Statement(_FIRST_NEWER, (project, before_ms, *place)))
        if newer is not None:
            return int(newer)
    return stop


async def first(db: Database, project: str, stop: int) -> int:
    """Returns the position of the project's first row that is there; `stop` if there is none."""
    [[seq]] = await db.read(Statement(_FIRST, (project, stop)))
    return int(seq)


async def check_may_delete(db: Database, project: str) -> None:
    """Raises `NotAllowed` if the role of the connection may not delete rows. Deletes none."""
    async with db.transaction() as tx:
        await tx.run(Statement(_TRY_DELETE, (project,)))


async def delete(db: Database, project: str, size: int) -> int:
    """Deletes rows among the first `size` of the project's chain, the first ones first, and returns
    how many: at most `DELETE_BATCHES_MAX` batches, of which each is a transaction. A crash leaves
    the later ones."""
    start = await first(db, project, size)
    deleted, end = 0, min(size, start + DELETE_BATCHES_MAX * DELETE_ROWS_MAX)
    for each in range(start, end, DELETE_ROWS_MAX):
        stop = min(end, each + DELETE_ROWS_MAX)
        async with db.transaction() as tx:
            [rows] = await tx.run(Statement(_DELETE, (project, each, stop)))
        deleted += len(rows)
    return deleted


async def page(
    db: Reader, which: ReadFilter, *, after: tuple[int, str] | None = None, limit: int
) -> list[Read]:
    """Returns the records that follow `after`, a (time, request id), the newest first."""
    arguments = (which.project, which.since_ms, *(after or (which.until_ms, "")), limit)
    if which.actor is None:
        rows = await db.read(Statement(_PAGE, arguments))
    else:
        rows = await db.read(Statement(_PAGE_OF_ACTOR, (*arguments, which.actor)))
    return [Read(*row) for row in rows]


async def count(db: Reader, which: ReadFilter) -> int:
    arguments = (which.project, which.since_ms, which.until_ms)
    if which.actor is None:
        counted = await db.read(Statement(_COUNT, arguments))
    else:
        counted = await db.read(Statement(_COUNT_OF_ACTOR, (*arguments, which.actor)))
    return int(counted[0][0])

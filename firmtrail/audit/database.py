"""Is everything that a database keeps of a log what its entries say?

The entries are hashed one after another, and from the hashes come the tiles, the frontier and the
roots that checkpoints sign (`edge`). Held against that: the stored subtrees, the head, every
checkpoint, and, event by event, the columns and texts beside the entry (`columns`).

It only reads, and the log may grow meanwhile. What changes, the heads and the numbers of rows, is
read in one snapshot at the start; what is below its size is append-only and needs none.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from firmtrail import events
from firmtrail.audit import rows
from firmtrail.audit.columns import UNREADABLE, Columns, Stored
from firmtrail.audit.edge import Edge, Tile, places_at, split
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.audit.verify import Advance
from firmtrail.events import TextErased
from firmtrail.eventstore import log as eventlog
from firmtrail.eventstore import merkle
from firmtrail.eventstore.checkpoint import Checkpoint
from firmtrail.eventstore.database import Reader, Statement

_COUNTS = """\
SELECT nudge_count
FROM log_heads
WHERE log_id = $1
LIMIT 1"""


class Mark(NamedTuple):
    """A root that the tree had to have at a size, and who says so."""

    size: int
    root: bytes
    said_by: str


class _Audit(NamedTuple):
    """What the steps share."""

    log: Log
    findings: Findings

    def add(self, where: str, what: str) -> None:
        self.findings.add(self.log.name, where, what)


async def verify_log(
    log: Log, marks: Sequence[Mark], start: int, findings: Findings, *, advance: Advance
) -> None:
    """Look at the log from the position `start` on, 0 or a tile's end below the first of `marks`.

    What was before `start` is taken from the stored subtrees, and is as good as the first mark.
    Raises `Unavailable`.
    """
    audit = _Audit(log, findings)
    async with log.db.snapshot() as snapshot:
        head = await eventlog.head(snapshot, log.log_id)
        [[nudges]] = await snapshot.read(Statement(_COUNTS, (log.log_id,)))
        await rows.outside(snapshot, log, head.size, findings)
    edge, columns = await _edge_at(audit, start), Columns(log, start, findings)
    _look(audit, edge, marks)
    async for run in rows.runs(log, start, head.size, findings):
        for stored in run:
            columns.see(stored)
        if run[0].position == edge.size:  # behind a hole there is no tree
            await _grow(audit, edge, run, marks)
        advance(len(run))
    if edge.size == head.size:
        await _end(audit, edge, head)
    for mark in marks:
        if mark.size > head.size:
            audit.add("log_heads (size)", f"is {head.size}, and {mark.said_by} is of {mark.size}")
    _hold_head(audit, head, columns, nudges, is_whole=start == 0)
    await _hold_texts(audit, columns, head.size)


async def _edge_at(audit: _Audit, start: int) -> Edge:
    tiles = []
    for place in places_at(start):
        first = place.number * merkle.TILE_WIDTH
        numbers = range(first, first + place.width)
        found = await rows.subtrees(audit.log, place.level, numbers)
        tiles.append(Tile(place, b"".join(_bytes(found.get(number)) for number in numbers)))
    return Edge(start, tiles)


def _bytes(text: str | None) -> bytes:
    """The hash of a row; nothing that is a hash where there is none."""
    try:
        return bytes.fromhex(text or "").rjust(merkle.HASH_BYTES, b"\0")[: merkle.HASH_BYTES]
    except ValueError:
        return bytes(merkle.HASH_BYTES)


async def _grow(audit: _Audit, edge: Edge, run: Sequence[Stored], marks: Sequence[Mark]) -> None:
    """Append the entries of a run; look at the root wherever somebody signed it."""
    leaves = [merkle.leaf_hash(stored.entry.encode()) for stored in run]
    stop = edge.size + len(leaves)
    within = {mark.size for mark in marks if edge.size < mark.size <= stop}
    for start, end in pairwise([edge.size, *sorted(within | {stop})]):
        first = run[0].position
        for tile in edge.extend(leaves[start - first : end - first]):
            await _hold_subtrees(audit, tile)
        _look(audit, edge, marks)


def _look(audit: _Audit, edge: Edge, marks: Sequence[Mark]) -> None:
    for mark in marks:
        if mark.size == edge.size and mark.root != edge.root():
            what = f"is not of the first {mark.size} entries: their root is {edge.root().hex()}"
            audit.add(mark.said_by, what)


async def _hold_subtrees(audit: _Audit, tile: Tile) -> None:
    """The stored subtrees must be those of the entries; of level 0 none are stored."""
    level, number, width = tile.place
    if level == 0:
        return
    numbers = range(number * merkle.TILE_WIDTH, number * merkle.TILE_WIDTH + width)
    stored = await rows.subtrees(audit.log, level, numbers)
    for n, computed in zip(numbers, split(tile.hashes), strict=True):
        if stored.get(n) != computed.hex():
            audit.add(
                _below(level, n),
                f"hash to another subtree than the stored (level {level}, number {n})",
            )


def _below(level: int, number: int) -> str:
    leaves = merkle.TILE_WIDTH**level
    return f"positions {number * leaves} to {(number + 1) * leaves - 1}"


async def _end(audit: _Audit, edge: Edge, head: eventlog.Head) -> None:
    for tile in edge.unfinished():
        await _hold_subtrees(audit, tile)
    computed = edge.frontier()
    if len(computed) != len(head.frontier):
        audit.add("log_heads (frontier)", f"has {len(head.frontier)} hashes, not {len(computed)}")
        return
    for (start, stop), ours, theirs in zip(
        _perfect(edge.size), computed, head.frontier, strict=True
    ):
        if ours != theirs:
            what = "hash to another subtree than the frontier in log_heads has"
            audit.add(f"positions {start} to {stop - 1}", what)


def _perfect(size: int) -> Iterator[tuple[int, int]]:
    """The perfect subtrees of a tree, largest first, as (first leaf, end)."""
    start = 0
    while start < size:
        stop = start + (1 << (size - start).bit_length() - 1)
        yield start, stop
        start = stop


def _hold_head(
    audit: _Audit, head: eventlog.Head, columns: Columns, nudges: int, *, is_whole: bool
) -> None:
    """The head counts what the entries are; how many nudge is known from the beginning alone."""
    found = {"recorded_at_ms": (head.recorded_at_ms, columns.recorded_at_ms)}
    if is_whole:
        found["control_count"] = (head.control_count, columns.control_count)
        found["nudge_count"] = (nudges, 0)
    for name, (stored, expected) in found.items():
        if stored != expected and (is_whole or columns.recorded_at_ms):
            audit.add(f"log_heads ({name})", f"is {stored}, the entries say {expected}")


async def _hold_texts(audit: _Audit, columns: Columns, size: int) -> None:
    """Every text that is missing was erased, perhaps since the log's size was read."""
    if columns.unexplained():
        log = audit.log
        newer = (await eventlog.head(log.db, log.log_id)).size
        async for run in rows.runs(log, size, newer, audit.findings):
            for stored in run:
                _see_erasure(columns, stored)
    for position in sorted(columns.unexplained()):
        audit.add(f"position {position}", "the text beside it is gone, and no event tells of it")


def _see_erasure(columns: Columns, stored: Stored) -> None:
    try:
        event = events.decode(stored.position, stored.entry).event
    except UNREADABLE:
        return
    if isinstance(event, TextErased) and event.position in columns.unexplained():
        columns.see_erasure(stored.position, event.position)

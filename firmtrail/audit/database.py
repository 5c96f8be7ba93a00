"""Is everything that a database keeps of a log what its entries say?

The entries are hashed one after another, and from the hashes come the tiles, the frontier and the
roots that checkpoints sign (`edge`). Held against that: the stored subtrees, the head, every
checkpoint, and, event by event, the columns and texts beside the entry (`columns`).

It only reads, and the log may grow meanwhile. What changes, the heads and the numbers of rows, is
read in one snapshot at the start; what is below its size is append-only and needs none.
"""

from collections.abc import Sequence
from itertools import batched, pairwise
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.columns import Columns, Stored
from firmtrail.audit.edge import Edge, Tile, places_at, split
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.audit.signed import Mark, Signed, marks, signed_of_more
from firmtrail.audit.verify import Advance
from firmtrail.events.log import TextErased
from firmtrail.eventstore import merkle
from firmtrail.eventstore.proofs import LeafRange, perfect_subtrees


class _Audit(NamedTuple):
    """What the steps share."""

    log: Log
    signed: Signed
    findings: Findings

    def add(self, where: str, what: str) -> None:
        self.findings.add(self.log.name, where, what)


async def verify_log(
    log: Log, signed: Signed, start: int, *, findings: Findings, advance: Advance
) -> Edge:
    """Look at the log from the position `start` on, 0 or a tile's end; the tree of its entries.

    What was before `start` is taken from the stored subtrees, and is as good as the first root
    behind it that was signed. Raises `Unavailable`.
    """
    audit = _Audit(log, signed, findings)
    head = await _look(audit)
    edge, columns = await _edge_at(audit, start), Columns(log, start, findings)
    await _hold_root(audit, edge)
    async for run in rows.runs(log, start, head.size, findings):
        for stored in run:
            columns.see(stored)
        if run[0].position == edge.size:  # behind a hole there is no tree
            await _grow(audit, edge, run)
        advance(len(run))
    if edge.size == head.size:
        await _end(audit, edge, head)
    _hold_head(audit, head, columns, is_whole=start == 0)
    await _hold_texts(audit, columns, head.size)
    await rows.repeated(log, findings)
    return edge


async def _look(audit: _Audit) -> rows.Head:
    """The head; what there is beyond its size is a finding."""
    log = audit.log
    async with log.db.snapshot() as snapshot:
        head = await rows.head(snapshot, log.log_id)
        await rows.outside(snapshot, log, head.size, audit.findings)
        longer = await signed_of_more(
            snapshot, log, audit.signed, size=head.size, findings=audit.findings
        )
    for mark in longer:
        audit.add(mark.said_by, f"is of {mark.size} entries, and the log has {head.size}")
    return head


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


async def _grow(audit: _Audit, edge: Edge, run: Sequence[Stored]) -> None:
    """Append the entries of a run; hold the root against what was signed, wherever it was."""
    leaves = [merkle.leaf_hash(stored.entry.encode()) for stored in run]
    first, stop = edge.size, edge.size + len(leaves)
    sizes = range(first + 1, stop + 1)
    signed = await marks(audit.log, audit.signed, sizes, audit.findings)
    for start, end in pairwise([first, *sorted({mark.size for mark in signed} | {stop})]):
        for tile in edge.extend(leaves[start - first : end - first]):
            await _hold_subtrees(audit, tile)
        _hold_marks(audit, edge, signed)


async def _hold_root(audit: _Audit, edge: Edge) -> None:
    """Where the way begins."""
    sizes = range(edge.size, edge.size + 1)
    _hold_marks(audit, edge, await marks(audit.log, audit.signed, sizes, audit.findings))


def _hold_marks(audit: _Audit, edge: Edge, signed: Sequence[Mark]) -> None:
    there = [mark for mark in signed if mark.size == edge.size]
    root = edge.root() if there else b""
    for mark in there:
        if mark.root != root:
            what = f"is not of the first {mark.size} entries, whose root is {root.hex()}"
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
    return rows.span(number * leaves, (number + 1) * leaves)


async def _end(audit: _Audit, edge: Edge, head: rows.Head) -> None:
    for tile in edge.unfinished():
        await _hold_subtrees(audit, tile)
    computed = edge.frontier()
    stored = list(map("".join, batched(head.frontier, 2 * merkle.HASH_BYTES)))
    if len(computed) != len(stored):
        audit.add("log_heads (frontier)", f"has {len(stored)} hashes, not {len(computed)}")
        return
    parts = perfect_subtrees(LeafRange(0, edge.size))
    for (height, number), ours, theirs in zip(parts, computed, stored, strict=True):
        if ours.hex() != theirs:
            what = "hash to another subtree than the frontier in log_heads has"
            audit.add(rows.span(number << height, (number + 1) << height), what)


def _hold_head(audit: _Audit, head: rows.Head, columns: Columns, *, is_whole: bool) -> None:
    """The head counts what the entries are; how many nudge is known from the beginning alone."""
    held = {"recorded_at_ms": (head.recorded_at_ms, columns.recorded_at_ms)}
    if is_whole:
        held["control_count"] = (head.control_count, columns.control_count)
        held["nudge_count"] = (head.nudge_count, columns.nudge_count)
    elif columns.recorded_at_ms == 0:  # no event was looked at
        return
    for name, (stored, expected) in held.items():
        if stored != expected:
            audit.add(f"log_heads ({name})", f"is {stored}, the entries say {expected}")


async def _hold_texts(audit: _Audit, columns: Columns, size: int) -> None:
    """Every text that is missing was erased, perhaps since the log's size was read."""
    if columns.unexplained():
        log = audit.log
        newer = (await rows.head(log.db, log.log_id)).size
        async for run in rows.runs(log, size, newer, audit.findings):
            for stored in run:
                _see_erasure(columns, stored)
    missing = columns.unexplained()
    for position in sorted(missing - await rows.erased_since(audit.log, missing)):
        audit.add(f"position {position}", "the text beside it is gone, and no event tells of it")


def _see_erasure(columns: Columns, stored: Stored) -> None:
    event = rows.decoded(stored.position, stored.entry)
    if (
        isinstance(event, TextErased)
        and event.log is None
        and event.position in columns.unexplained()
    ):
        columns.see_erasure(stored.position, event.position)

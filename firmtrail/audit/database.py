"""Checks that everything a database stores about a log follows from the log's entries.

The entries are hashed one after another, and the hashes give the tiles, the frontier and the roots
that checkpoints sign (`growing_tree`). The stored subtrees, the head and every checkpoint are
compared with these, the columns and text of each event with its entry (`columns`), and the table of
identities with the events (`identities`).

It only reads, and the log may grow meanwhile. The heads and the numbers of rows change, so they are
read in one snapshot at the start. The rows below the log's size are append-only and need none.
"""

from collections.abc import Sequence
from itertools import batched, pairwise
from typing import NamedTuple

from firmtrail.audit import identities, rows
from firmtrail.audit.columns import ColumnCheck
from firmtrail.audit.finding import Findings
from firmtrail.audit.growing_tree import GrowingTree, HashTile, split, unfinished_tiles
from firmtrail.audit.known_roots import ExpectedRoot, KnownRoots, roots_at, roots_beyond
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.stubs import StubCheck
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.events.log import TextErased
from firmtrail.eventstore import merkle
from firmtrail.eventstore.proofs import LeafRange, perfect_subtrees
from firmtrail.eventstore.pruned import pruned_size
from firmtrail.eventstore.stored_events import StoredEvent
from firmtrail.eventstore.tree import leaf_hash


class _Audit(NamedTuple):
    """Holds what all steps need."""

    log: AuditedLog
    known: KnownRoots
    findings: Findings

    def add(self, where: str, what: str) -> None:
        self.findings.add(self.log.name, where, what)


async def verify_log(
    log: AuditedLog, known: KnownRoots, start: int, *, findings: Findings, advance: AdvanceProgress
) -> GrowingTree:
    """Checks the log from the position `start`, which is 0 or the end of a tile; returns the tree
    of its entries.

    The part before `start` is taken from the stored subtrees; only the next signed root proves it.
    Raises `Unavailable`.
    """
    audit = _Audit(log, known, findings)
    head = await _checked_head(audit)
    tree, columns = await _tree_at(audit, start), ColumnCheck(log, start, findings)
    named = identities.new_sum()
    pruned = StubCheck(log, await pruned_size(log.db, log.log_id), findings)
    at_start = range(tree.size, tree.size + 1)
    _compare_roots(audit, tree, await roots_at(log, known, at_start, findings))
    async for run in rows.runs(log, start, head.size, findings):
        for stored in run:
            named.add(stored.stream, stored.event_id, stored.position)
        for stored in await pruned.texts(run):
            columns.check(stored)
        if run[0].position == tree.size:  # a gap ends the tree
            await _grow(audit, tree, run)
        advance(len(run))
    if tree.size == head.size:
        await _compare_end(audit, tree, head)
    _compare_head(audit, head, columns, is_whole=start == 0 and pruned.is_complete)
    await _check_texts(audit, columns, head.size)
    await identities.check(log, range(start, head.size), named, findings)
    return tree


async def _checked_head(audit: _Audit) -> rows.HeadRow:
    """Returns the head; rows and checkpoints beyond its size are findings."""
    log = audit.log
    async with log.db.snapshot() as snapshot:
        head = await rows.head(snapshot, log.log_id)
        await rows.find_rows_outside(snapshot, log, head.size, audit.findings)
        beyond = await roots_beyond(
            snapshot, log, audit.known, size=head.size, findings=audit.findings
        )
    for root in beyond:
        audit.add(root.source, f"covers {root.size} entries, but the log has {head.size}")
    return head


async def _tree_at(audit: _Audit, start: int) -> GrowingTree:
    tiles = []
    for tile in unfinished_tiles(start):
        first = tile.number * merkle.TILE_WIDTH
        numbers = range(first, first + tile.width)
        found = await rows.subtrees(audit.log, tile.level, numbers)
        tiles.append(HashTile(tile, b"".join(_bytes(found.get(number)) for number in numbers)))
    return GrowingTree(start, tiles)


def _bytes(text: str | None) -> bytes:
    """Returns HASH_BYTES bytes: the hash of a row, or zeros, which are no entry's hash."""
    try:
        return bytes.fromhex(text or "").rjust(merkle.HASH_BYTES, b"\0")[: merkle.HASH_BYTES]
    except ValueError:
        return bytes(merkle.HASH_BYTES)


async def _grow(audit: _Audit, tree: GrowingTree, run: Sequence[StoredEvent]) -> None:
    """Appends the entries of a run; compares the root at every size that has an expected one."""
    leaves = [leaf_hash(stored.entry) for stored in run]
    first, stop = tree.size, tree.size + len(leaves)
    sizes = range(first + 1, stop + 1)
    expected = await roots_at(audit.log, audit.known, sizes, audit.findings)
    for start, end in pairwise([first, *sorted({root.size for root in expected} | {stop})]):
        for tile in tree.extend(leaves[start - first : end - first]):
            await _compare_subtrees(audit, tile)
        _compare_roots(audit, tree, expected)


def _compare_roots(audit: _Audit, tree: GrowingTree, expected: Sequence[ExpectedRoot]) -> None:
    of_this_size = [each for each in expected if each.size == tree.size]
    root = tree.root() if of_this_size else b""
    for each in of_this_size:
        if each.root != root:
            what = f"its root is not that of the first {each.size} entries, which is {root.hex()}"
            audit.add(each.source, what)


async def _compare_subtrees(audit: _Audit, tile: HashTile) -> None:
    """Compares the stored subtrees with those of the entries; level 0 is not stored."""
    level, number, width = tile.id
    if level == 0:
        return
    numbers = range(number * merkle.TILE_WIDTH, number * merkle.TILE_WIDTH + width)
    stored = await rows.subtrees(audit.log, level, numbers)
    for n, computed in zip(numbers, split(tile.hashes), strict=True):
        if stored.get(n) != computed.hex():
            leaves = merkle.TILE_WIDTH**level
            what = f"their hash differs from the stored subtree (level {level}, number {n})"
            audit.add(rows.span(n * leaves, (n + 1) * leaves), what)


async def _compare_end(audit: _Audit, tree: GrowingTree, head: rows.HeadRow) -> None:
    """Compares the unfinished tiles and the frontier with the stored ones."""
    for tile in tree.unfinished():
        await _compare_subtrees(audit, tile)
    computed = tree.frontier()
    stored = list(map("".join, batched(head.frontier, 2 * merkle.HASH_BYTES)))
    if len(computed) != len(stored):
        audit.add("log_heads (frontier)", f"has {len(stored)} hashes instead of {len(computed)}")
        return
    parts = perfect_subtrees(LeafRange(0, tree.size))
    for (height, number), ours, theirs in zip(parts, computed, stored, strict=True):
        if ours.hex() != theirs:
            what = "their hash differs from the frontier in log_heads"
            audit.add(rows.span(number << height, (number + 1) << height), what)


def _compare_head(
    audit: _Audit, head: rows.HeadRow, columns: ColumnCheck, *, is_whole: bool
) -> None:
    """Compares the time and the counts of the head; the counts need the log from its beginning."""
    compared = {"recorded_at_ms": (head.recorded_at_ms, columns.recorded_at_ms)}
    if is_whole:
        compared["control_count"] = (head.control_count, columns.control_count)
        compared["nudge_count"] = (head.nudge_count, columns.nudge_count)
    elif columns.recorded_at_ms == 0:  # no event was checked
        return
    for name, (stored, expected) in compared.items():
        if stored != expected:
            audit.add(f"log_heads ({name})", f"is {stored}, but the entries give {expected}")


async def _check_texts(audit: _Audit, columns: ColumnCheck, size: int) -> None:
    """Checks that every missing text was erased, possibly after the log's size was read."""
    if gone := columns.unexplained():
        log = audit.log
        newer = (await rows.head(log.db, log.log_id)).size
        async for run in rows.runs(log, size, newer, audit.findings):
            for stored in run:
                event = rows.decoded(stored.position, stored.entry)
                if isinstance(event, TextErased) and event.log is None and event.position in gone:
                    columns.note_erasure(stored.position, event.position)
    missing = columns.unexplained()
    for position in sorted(missing - await rows.erased_since(audit.log, missing)):
        what = "its text is missing, and no event records its erasure"
        audit.add(f"position {position}", what)

"""Reads any root, proof, tile or bundle of a log's tree from the database.

Level 0, the leaf hashes, is computed from the entries themselves, or read from the stubs of those
that were pruned; the hashes of every level above are stored when their subtrees are completed. So
each read costs at most two queries for a known number of rows, at any size of the log: a proof
needs at most 2 * TILE_WIDTH rows a level.

Appended entries never change, so the results are right while the log grows and after it was closed.
The caller makes sure that the log is large enough: a missing row raises `log.Corrupt`.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from firmtrail.database import stubs
from firmtrail.database.database import Given, Reader, Row, Statement
from firmtrail.eventstore import log, merkle, proofs
from firmtrail.eventstore.merkle import TILE_HEIGHT, TILE_WIDTH
from firmtrail.eventstore.proofs import LeafRange, PerfectSubtree

_ENTRIES = """\
SELECT events.position, events.entry
FROM given
CROSS JOIN events
WHERE events.log_id = $1
    AND events.position >= given.start
    AND events.position < given.stop"""

_SUBTREES = """\
SELECT subtrees.level, subtrees.number, subtrees.hash
FROM given
CROSS JOIN subtrees
WHERE subtrees.log_id = $1
    AND subtrees.level = given.level
    AND subtrees.number >= given.start
    AND subtrees.number < given.stop"""


class _Run(NamedTuple):
    """Names neighbouring hashes of one level: those at start <= number < stop."""

    level: int
    start: int
    stop: int


type _Hashes = dict[tuple[int, int], bytes]
"""(level, number) -> the hash there."""


async def root(db: Reader, log_id: int, size: int) -> bytes:
    """Returns the tree's root when the log had `size` entries."""
    [found] = await _roots(db, log_id, [LeafRange(0, size)])
    return found


async def inclusion(db: Reader, log_id: int, position: int, size: int) -> list[bytes]:
    """Returns the proof that the entry at `position` is in the tree of `size`, leaf's side
    first."""
    return await _roots(db, log_id, proofs.inclusion(position, size))


async def consistency(db: Reader, log_id: int, old: int, new: int) -> list[bytes]:
    """Returns the proof that the tree of size `new` begins with that of size `old`; empty for 0."""
    return await _roots(db, log_id, proofs.consistency(old, new))


async def hash_tile(  # noqa: PLR0917 (a tile's name has three parts)
    db: Reader, log_id: int, level: int, number: int, width: int
) -> bytes:
    """Returns the hashes of a tile, joined."""
    run = _Run(level, number * TILE_WIDTH, number * TILE_WIDTH + width)
    hashes = await _read(db, log_id, [run])
    return b"".join(_of_run(hashes, run))


async def bundle_roots(db: Reader, log_id: int, numbers: range) -> list[bytes]:
    """Returns the roots of neighbouring full bundles, as they were stored when they got full."""
    run = _Run(1, numbers.start, numbers.stop)
    return _of_run(await _read(db, log_id, [run]), run)


async def bundle(db: Reader, log_id: int, number: int, width: int) -> bytes:
    """Returns the entries below a tile of level 0, each preceded by its length in two bytes."""
    start = number * TILE_WIDTH
    entries = [
        text.encode()
        async for page in log.read(db, log_id, start, start + width)
        for _, _, text in page
    ]
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


async def _roots(db: Reader, log_id: int, ranges: Sequence[LeafRange]) -> list[bytes]:
    """Returns the root of each range of a proof."""
    parts = [[_below(subtree) for subtree in proofs.perfect_subtrees(leaves)] for leaves in ranges]
    hashes = await _read(db, log_id, list(chain.from_iterable(parts)))
    return [merkle.root(tuple(_joined(_of_run(hashes, run)) for run in part)) for part in parts]


def _below(subtree: PerfectSubtree) -> _Run:
    """Returns the hashes that make up a perfect subtree, at the highest level not above its
    root."""
    level, height = divmod(subtree.height, TILE_HEIGHT)
    return _Run(level, subtree.number << height, (subtree.number + 1) << height)


def _joined(hashes: Iterable[bytes]) -> bytes:
    return merkle.root(merkle.extend((), 0, hashes).frontier)


def _of_run(hashes: _Hashes, run: _Run) -> list[bytes]:
    return [hashes[run.level, number] for number in range(run.start, run.stop)]


async def _read(db: Reader, log_id: int, runs: Sequence[_Run]) -> _Hashes:
    """Reads the hashes of the runs: one query for all leaves, and one for all levels above."""
    leaves = [run[1:] for run in runs if run.level == 0]
    above = [run for run in runs if run.level > 0]
    hashes: _Hashes = {}
    if leaves:
        given = Given("start bigint, stop bigint", leaves)
        hashes |= _of_entries(await db.read(Statement(_ENTRIES, (log_id,), given)))
    if above:
        given = Given("level bigint, start bigint, stop bigint", above)
        hashes |= _of_subtrees(await db.read(Statement(_SUBTREES, (log_id,), given)))
    if len(hashes) != sum(run.stop - run.start for run in runs):
        raise log.Corrupt(f"log {log_id}: hashes of its tree are missing in {runs}")
    return hashes


def _of_entries(rows: Iterable[Row]) -> _Hashes:
    return {(0, position): leaf_hash(entry) for position, entry in rows}


def leaf_hash(entry: str) -> bytes:
    """Returns the hash of an entry as it is stored. A stub has it, so no archive is asked."""
    if (stub := stubs.parse(entry)) is not None:
        return bytes.fromhex(stub.leaf_hash)
    return merkle.leaf_hash(entry.encode())


def _of_subtrees(rows: Iterable[Row]) -> _Hashes:
    return {(level, number): bytes.fromhex(text) for level, number, text in rows}

"""Any root, proof, tile or bundle of a log's tree, from the database: the reads of the tree.

Level 0, the leaf hashes, is computed from the entries themselves; every level above is stored as
its subtrees are completed. So whatever is asked for costs at most two queries for a known number of
rows, whatever the log's size: a proof at most 2 * TILE_WIDTH rows a level.

What has been appended never changes, so all of this is right while the log grows, and after it was
closed. The caller knows that the log is as large as what it asks for: a row that isn't there raises
`log.Corrupt`.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Row, Statement
from firmtrail.eventstore import log, merkle, proofs
from firmtrail.eventstore.merkle import TILE_HEIGHT, TILE_WIDTH
from firmtrail.eventstore.proofs import Perfect, Range

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
    """Neighbours of one level: those at start <= number < stop."""

    level: int
    start: int
    stop: int


type _Hashes = dict[tuple[int, int], bytes]
"""The hash at each (level, number)."""


async def root(db: Database, log_id: int, size: int) -> bytes:
    """The tree's root when the log had `size` entries."""
    [found] = await _roots(db, log_id, [Range(0, size)])
    return found


async def inclusion(db: Database, log_id: int, position: int, size: int) -> list[bytes]:
    """The proof that the entry at `position` is in the tree of `size`; the leaf's side first."""
    return await _roots(db, log_id, proofs.inclusion(position, size))


async def consistency(db: Database, log_id: int, old: int, new: int) -> list[bytes]:
    """The proof that the tree of size `new` begins with that of size `old`; none from 0."""
    return await _roots(db, log_id, proofs.consistency(old, new))


async def hash_tile(  # noqa: PLR0917 (a tile's name has three parts)
    db: Database, log_id: int, level: int, number: int, width: int
) -> bytes:
    """The hashes of a tile, joined."""
    run = _Run(level, number * TILE_WIDTH, number * TILE_WIDTH + width)
    hashes = await _read(db, log_id, [run])
    return b"".join(_of_run(hashes, run))


async def bundle(db: Database, log_id: int, number: int, width: int) -> bytes:
    """The entries below a tile of level 0, each behind its length as two bytes."""
    start = number * TILE_WIDTH
    entries = [
        text.encode()
        async for page in log.read(db, log_id, start, start + width)
        for _, _, text in page
    ]
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


async def _roots(db: Database, log_id: int, ranges: Sequence[Range]) -> list[bytes]:
    """The root of each range of a proof."""
    parts = [[_below(subtree) for subtree in proofs.perfect(leaves)] for leaves in ranges]
    hashes = await _read(db, log_id, list(chain.from_iterable(parts)))
    return [merkle.root(tuple(_joined(_of_run(hashes, run)) for run in part)) for part in parts]


def _below(subtree: Perfect) -> _Run:
    """What a perfect subtree consists of at the highest level that is not above its root."""
    level, height = divmod(subtree.height, TILE_HEIGHT)
    return _Run(level, subtree.number << height, (subtree.number + 1) << height)


def _joined(hashes: Iterable[bytes]) -> bytes:
    return merkle.root(merkle.extend((), 0, hashes).frontier)


def _of_run(hashes: _Hashes, run: _Run) -> list[bytes]:
    return [hashes[run.level, number] for number in range(run.start, run.stop)]


async def _read(db: Database, log_id: int, runs: Sequence[_Run]) -> _Hashes:
    """The hashes of the runs: a query for all leaves, and one for all that is above them."""
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
        raise log.Corrupt(f"log {log_id}: its tree is not whole below {runs}")
    return hashes


def _of_entries(rows: Iterable[Row]) -> _Hashes:
    return {(0, position): merkle.leaf_hash(entry.encode()) for position, entry in rows}


def _of_subtrees(rows: Iterable[Row]) -> _Hashes:
    return {(level, number): bytes.fromhex(text) for level, number, text in rows}

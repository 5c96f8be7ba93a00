"""Checks that a log that a source serves is the one that its checkpoint signs.

Every entry is hashed, and every tile and the root are computed from these hashes (`growing_tree`).
The served tiles must equal the computed ones, and the computed root must be the signed one. An
earlier checkpoint is compared with the computed root at its size. So an auditor learns that nothing
before it was changed, without a proof from anybody.

With an earlier checkpoint, reading begins at the last full tile below its size. The tiles that the
tree needs there come from the source; they must lead to the root of the earlier checkpoint.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from firmtrail.audit import source as read
from firmtrail.audit.finding import Findings
from firmtrail.audit.growing_tree import GrowingTree, HashTile, split, unfinished_tiles
from firmtrail.audit.source import Missing, Source
from firmtrail.eventstore import merkle
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing.checkpoint import Checkpoint

type AdvanceProgress = Callable[[int], None]
"""Receives the number of entries that were checked since the last call."""

AHEAD_BUNDLES = 8
"""How many bundles are read ahead while one is hashed."""

FINDINGS_ENOUGH = 10_000
"""Ends the audit: a source that signs any size and serves nothing must not keep an auditor busy."""

UNREAD = bytes(merkle.HASH_BYTES)
"""Stands for the hash of an entry that could not be read: no entry has this hash."""


class ServedLog(NamedTuple):
    """Names a log to verify: its source, its checkpoint, and an earlier one that is trusted."""

    source: Source
    checkpoint: Checkpoint
    earlier: Checkpoint | None = None

    @property
    def start(self) -> int:
        """Returns the end of the last full bundle below the earlier checkpoint."""
        return self.earlier.size // TILE_WIDTH * TILE_WIDTH if self.earlier else 0

    @property
    def entries(self) -> int:
        return max(0, self.checkpoint.size - self.start)


class HashedBundle(NamedTuple):
    """Holds a bundle's entries, and the tiles that they complete."""

    number: int
    entries: list[bytes]
    tiles: list[HashTile]


async def verify(log: ServedLog, findings: Findings, advance: AdvanceProgress) -> None:
    """Checks the log from its start to its checkpoint. Raises `Unreadable`."""
    if not is_later(log, findings):
        return
    async for bundle in hashed_bundles(log, findings):
        for tile in bundle.tiles:
            await _compare(log, tile, findings)
        advance(len(bundle.entries))


async def hashed_bundles(log: ServedLog, findings: Findings) -> AsyncIterator[HashedBundle]:
    """Yields the bundles, the last one with the unfinished tiles; then compares the root."""
    tree, size = await _tree_at_start(log, findings), log.checkpoint.size
    async for number, entries in _bundles(log, findings):
        leaves = [merkle.leaf_hash(entry) if entry is not None else UNREAD for entry in entries]
        tiles = list(_extend(tree, leaves, log, findings))
        if tree.size == size:
            tiles += tree.unfinished()
        yield HashedBundle(number, [entry or b"" for entry in entries], tiles)
    if tree.root() != log.checkpoint.root:
        what = f"its root is not the root of its {size} entries"
        findings.add(log.checkpoint.origin, "checkpoint", what)


def is_later(log: ServedLog, findings: Findings) -> bool:
    """Returns whether the checkpoint can follow the earlier one; if not, that is a finding."""
    checkpoint, earlier = log.checkpoint, log.earlier
    if earlier is None:
        return True
    what = ""
    if earlier.origin != checkpoint.origin:
        what = f"the earlier checkpoint is for {earlier.origin}"
    elif earlier.size > checkpoint.size:
        what = f"it covers {checkpoint.size} entries, but an earlier one covers {earlier.size}"
    elif earlier.size == checkpoint.size and earlier.root != checkpoint.root:
        what = f"an earlier checkpoint has another root for the same {earlier.size} entries"
    if what:
        findings.add(checkpoint.origin, "checkpoint", what)
    return not what


async def _tree_at_start(log: ServedLog, findings: Findings) -> GrowingTree:
    """Returns the tree of the entries before `log.start`, as the source has it."""
    tiles = []
    for tile in unfinished_tiles(log.start):
        try:
            hashes = await read.tile(log.source, tile, log.checkpoint.size)
        except Missing:
            findings.add(log.checkpoint.origin, read.path(tile), "is missing")
            hashes = UNREAD * tile.width
        tiles.append(HashTile(tile, hashes))
    return GrowingTree(log.start, tiles)


def _extend(
    tree: GrowingTree, leaves: Sequence[bytes], log: ServedLog, findings: Findings
) -> list[HashTile]:
    """Appends the entries; compares the root at the size of the earlier checkpoint."""
    earlier = log.earlier
    before = max(0, earlier.size - tree.size) if earlier else 0
    if earlier is None or before > len(leaves):
        return list(tree.extend(leaves))
    tiles = list(tree.extend(leaves[:before]))
    if tree.size == earlier.size and tree.root() != earlier.root:
        what = f"the first {earlier.size} entries differ from those of the earlier checkpoint"
        findings.add(log.checkpoint.origin, "checkpoint", what)
    return [*tiles, *tree.extend(leaves[before:])]


async def _bundles(
    log: ServedLog, findings: Findings
) -> AsyncIterator[tuple[int, Sequence[bytes | None]]]:
    """Yields (number, entries) in order and reads some bundles ahead; a missing entry is None."""
    size = log.checkpoint.size
    waiting: deque[tuple[int, int, asyncio.Task[list[bytes]]]] = deque()
    numbers = iter(range(log.start // TILE_WIDTH, -(-size // TILE_WIDTH)))
    try:
        while findings.count < FINDINGS_ENOUGH:
            while len(waiting) < AHEAD_BUNDLES and (number := next(numbers, None)) is not None:
                width = min(TILE_WIDTH, size - number * TILE_WIDTH)
                task = asyncio.create_task(read.bundle(log.source, number, width))
                waiting.append((number, width, task))
            if not waiting:
                return
            number, width, task = waiting.popleft()
            yield number, await _read(task, number, width, (log.checkpoint.origin, findings))
    finally:
        for _, _, task in waiting:
            task.cancel()


async def _read(
    task: asyncio.Task[list[bytes]], number: int, width: int, to: tuple[str, Findings]
) -> Sequence[bytes | None]:
    log, findings = to
    try:
        return await task
    except Missing:
        findings.add(log, read.bundle_path(number, width), "is missing")
    except ValueError as error:
        findings.add(log, read.bundle_path(number, width), str(error))
    return [None] * width


async def _compare(log: ServedLog, tile: HashTile, findings: Findings) -> None:
    origin, path = log.checkpoint.origin, read.path(tile.id)
    try:
        served = await read.tile(log.source, tile.id, log.checkpoint.size)
    except Missing:
        findings.add(origin, path, "is missing")
        return
    if served == tile.hashes:
        return
    if len(served) != len(tile.hashes):
        findings.add(origin, path, f"does not contain {tile.id.width} hashes")
        return
    for n, (theirs, ours) in enumerate(zip(split(served), split(tile.hashes), strict=True)):
        if theirs != ours and tile.id.level == 0:
            position = tile.id.number * TILE_WIDTH + n
            findings.add(origin, f"position {position}", f"does not match its hash in {path}")
        elif theirs != ours:
            findings.add(origin, path, f"its hash {n} does not match the tile below it")

"""Is a log that somebody serves the one that its checkpoint signs?

Every entry is hashed, and from the hashes every tile and the root are computed anew (`edge`). The
served tiles must be the computed ones, the computed root the signed one. An earlier checkpoint is
held against the root that the tree had at its size, on the way: so "nothing before it was changed"
needs no proof that anybody hands over.

With an earlier checkpoint the way begins at the last full tile below its size. The tiles that the
tree stands on there come from the source, and are as good as the earlier checkpoint's root, which
they must lead to.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from firmtrail.audit import source as read
from firmtrail.audit.edge import Edge, Tile, places_at, split
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import Missing, Source
from firmtrail.eventstore import merkle
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing.checkpoint import Checkpoint

type Advance = Callable[[int], None]
"""Told how many entries more are done."""

AHEAD_BUNDLES = 8
"""Read while the one before is hashed."""

FINDINGS_ENOUGH = 10_000
"""Then nothing more is read: who signs any size and serves nothing keeps no auditor busy."""

UNREAD = bytes(merkle.HASH_BYTES)
"""Stands for the hash of an entry that could not be read: no entry has it."""


class Way(NamedTuple):
    """What is to be gone through, and what must hold at its ends."""

    source: Source
    signed: Checkpoint
    since: Checkpoint | None = None
    """An earlier checkpoint, which is believed."""

    @property
    def start(self) -> int:
        """The last full bundle's end below the earlier checkpoint."""
        return self.since.size // TILE_WIDTH * TILE_WIDTH if self.since else 0

    @property
    def entries(self) -> int:
        """How many are read on the way."""
        return max(0, self.signed.size - self.start)


class Step(NamedTuple):
    """A bundle, and the tiles that it finishes."""

    number: int
    entries: list[bytes]
    tiles: list[Tile]


async def verify(way: Way, findings: Findings, advance: Advance) -> None:
    """Go the whole way; adds what is wrong to `findings`. Raises `Unreadable`."""
    if not is_later(way, findings):
        return
    async for step in steps(way, findings):
        for tile in step.tiles:
            await _hold(way, tile, findings)
        advance(len(step.entries))


async def steps(way: Way, findings: Findings) -> AsyncIterator[Step]:
    """The bundles of the way with the tiles that they finish, the unfinished ones last."""
    edge = await _edge_at(way, findings)
    async for number, entries in _bundles(way, findings):
        leaves = [merkle.leaf_hash(entry) if entry is not None else UNREAD for entry in entries]
        tiles = list(_extend(edge, leaves, way, findings))
        if edge.size == way.signed.size:
            tiles += edge.unfinished()
        yield Step(number, [entry or b"" for entry in entries], tiles)
    if edge.root() != way.signed.root:
        what = f"it signs another root than that of its {way.signed.size} entries"
        findings.add(way.signed.origin, "checkpoint", what)


def is_later(way: Way, findings: Findings) -> bool:
    signed, since = way.signed, way.since
    if since is None:
        return True
    what = ""
    if since.origin != signed.origin:
        what = f"the earlier one is of {since.origin}"
    elif since.size > signed.size:
        what = f"it is of {signed.size} entries, and {since.size} were signed before"
    elif since.size == signed.size and since.root != signed.root:
        what = f"another root of the same {since.size} entries was signed before"
    if what:
        findings.add(signed.origin, "checkpoint", what)
    return not what


async def _edge_at(way: Way, findings: Findings) -> Edge:
    """The tree where the way begins."""
    tiles = []
    for place in places_at(way.start):
        try:
            tiles.append(Tile(place, await read.tile(way.source, place, way.signed.size)))
        except Missing:
            findings.add(way.signed.origin, read.path(place), "is missing")
            tiles.append(Tile(place, UNREAD * place.width))
    return Edge(way.start, tiles)


def _extend(edge: Edge, leaves: Sequence[bytes], way: Way, findings: Findings) -> list[Tile]:
    """Append, and look at the root where the earlier checkpoint did."""
    since = way.since
    before = max(0, since.size - edge.size) if since else 0
    if since is None or before > len(leaves):
        return list(edge.extend(leaves))
    tiles = list(edge.extend(leaves[:before]))
    if edge.size == since.size and edge.root() != since.root:
        what = f"the first {since.size} entries are not those that were signed before"
        findings.add(way.signed.origin, "checkpoint", what)
    return [*tiles, *edge.extend(leaves[before:])]


async def _bundles(
    way: Way, findings: Findings
) -> AsyncIterator[tuple[int, Sequence[bytes | None]]]:
    """(number, entries) in order, some of them read ahead; None for an entry that is not there."""
    size = way.signed.size
    waiting: deque[tuple[int, int, asyncio.Task[list[bytes]]]] = deque()
    numbers = iter(range(way.start // TILE_WIDTH, -(-size // TILE_WIDTH)))
    try:
        while findings.count < FINDINGS_ENOUGH:
            while len(waiting) < AHEAD_BUNDLES and (number := next(numbers, None)) is not None:
                width = min(TILE_WIDTH, size - number * TILE_WIDTH)
                task = asyncio.create_task(read.bundle(way.source, number, width))
                waiting.append((number, width, task))
            if not waiting:
                return
            number, width, task = waiting.popleft()
            yield number, await _read(task, number, width, (way.signed.origin, findings))
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


async def _hold(way: Way, tile: Tile, findings: Findings) -> None:
    """The served tile must be the computed one."""
    log, (level, number, width) = way.signed.origin, tile.place
    try:
        served = await read.tile(way.source, tile.place, way.signed.size)
    except Missing:
        findings.add(log, read.path(tile.place), "is missing")
        return
    if served == tile.hashes:
        return
    if len(served) != len(tile.hashes):
        findings.add(log, read.path(tile.place), f"does not hold {width} hashes")
        return
    for n, (theirs, ours) in enumerate(zip(split(served), split(tile.hashes), strict=True)):
        if theirs != ours and level == 0:
            what = f"the entry is not the one whose hash {read.path(tile.place)} holds"
            findings.add(log, f"position {number * TILE_WIDTH + n}", what)
        elif theirs != ours:
            what = f"its hash {n} is not that of the tile below"
            findings.add(log, read.path(tile.place), what)

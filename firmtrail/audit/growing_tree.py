"""Computes the tree of a log from its entries, as far as they were read. Pure.

A log's tree is cut into tiles of 256 hashes (C2SP tlog-tiles): level 0 holds the hashes of the
entries, each level above holds one hash for each tile below. To grow, a tree needs only its right
edge, the last and unfinished tile of each level: under 256 hashes a level, whatever the log's
length. The root, the frontier and every tile follow from it. So an auditor that reads the entries
once computes all of them without trusting anybody.
"""

from collections.abc import Iterator, Sequence
from itertools import batched, chain
from typing import NamedTuple

from firmtrail.eventstore import merkle
from firmtrail.eventstore.merkle import TILE_HEIGHT, TILE_WIDTH


class TileId(NamedTuple):
    """Names a tile: the `number`th of its level, with `width` hashes."""

    level: int
    number: int
    width: int


class HashTile(NamedTuple):
    """Holds a tile's hashes."""

    id: TileId
    hashes: bytes
    """All hashes of the tile in one text, without separators."""


def unfinished_tiles(size: int) -> list[TileId]:
    """Returns the unfinished tiles of a tree of this size, the lowest level first."""
    tiles = []
    level = 0
    while size:
        size, width = divmod(size, TILE_WIDTH)
        if width:
            tiles.append(TileId(level, size, width))
        level += 1
    return tiles


class GrowingTree:
    """Holds the tree of the first `size` entries."""

    def __init__(self, size: int = 0, tiles: Sequence[HashTile] = ()) -> None:
        """Continues from `tiles`, the `unfinished_tiles(size)`. They are not verified yet: the
        caller compares `root()` with a root that it trusts.
        """
        self.size = size
        self._levels: list[list[bytes]] = []
        for (level, _, _), hashes in tiles:
            while len(self._levels) <= level:
                self._levels.append([])
            self._levels[level] = split(hashes)

    def extend(self, leaf_hashes: Sequence[bytes]) -> Iterator[HashTile]:
        """Appends entries by their hashes; yields each tile that they complete."""
        free = TILE_WIDTH - self.size % TILE_WIDTH  # the parts end where tiles end
        for part in (leaf_hashes[:free], *batched(leaf_hashes[free:], TILE_WIDTH)):
            self.size += len(part)
            yield from self._append(0, part)

    def _append(self, level: int, hashes: Sequence[bytes]) -> Iterator[HashTile]:
        if len(self._levels) == level:
            self._levels.append([])
        unfinished = self._levels[level]
        unfinished.extend(hashes)
        if len(unfinished) == TILE_WIDTH:
            number = (self.size >> TILE_HEIGHT * (level + 1)) - 1
            yield HashTile(TileId(level, number, TILE_WIDTH), b"".join(unfinished))
            top = merkle.root(merkle.extend((), 0, unfinished).frontier)
            unfinished.clear()
            yield from self._append(level + 1, [top])

    def unfinished(self) -> list[HashTile]:
        """Returns the tiles at the right edge."""
        return [
            HashTile(each, b"".join(self._levels[each.level]))
            for each in unfinished_tiles(self.size)
        ]

    def frontier(self) -> merkle.Frontier:
        """Returns the perfect subtrees, the largest first: the highest level has the largest."""
        parts = (merkle.extend((), 0, hashes).frontier for hashes in reversed(self._levels))
        return tuple(chain.from_iterable(parts))

    def root(self) -> bytes:
        return merkle.root(self.frontier())


def split(hashes: bytes) -> list[bytes]:
    size = merkle.HASH_BYTES
    return [hashes[at : at + size] for at in range(0, len(hashes), size)]

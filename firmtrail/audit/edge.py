"""The tree of a log that is read from its beginning, as far as it was read: pure.

A log's tree is cut into tiles of 256 hashes (C2SP tlog-tiles): level 0 holds the hashes of the
entries, each level above one hash for a tile below. What a growing tree still needs of itself is
its right edge, the last and unfinished tile of each level: under 256 hashes a level, whatever the
log's length. The root, the frontier and every tile follow from it, so an auditor who goes through
the entries once has computed all of them himself.
"""

from collections.abc import Iterator, Sequence
from itertools import batched, chain
from typing import NamedTuple

from firmtrail.eventstore import merkle
from firmtrail.eventstore.merkle import TILE_HEIGHT, TILE_WIDTH


class Place(NamedTuple):
    """Which tile: the `number`th of its level, with that many hashes."""

    level: int
    number: int
    width: int


class Tile(NamedTuple):
    place: Place
    hashes: bytes
    """One behind the other."""


def places_at(size: int) -> list[Place]:
    """The unfinished tiles of a tree of this size, the lowest level first."""
    places = []
    level = 0
    while size:
        size, width = divmod(size, TILE_WIDTH)
        if width:
            places.append(Place(level, size, width))
        level += 1
    return places


class Edge:
    """The tree of the first `size` entries."""

    def __init__(self, size: int = 0, tiles: Sequence[Tile] = ()) -> None:
        """Goes on from `tiles`, the unfinished ones of `places_at(size)`; nobody checked them yet:
        hold `root()` against a root that is known."""
        self.size = size
        self._levels: list[list[bytes]] = []
        for (level, _, _), hashes in tiles:
            while len(self._levels) <= level:
                self._levels.append([])
            self._levels[level] = split(hashes)

    def extend(self, leaf_hashes: Sequence[bytes]) -> Iterator[Tile]:
        """Appends entries by their hashes; gives each tile that they finish."""
        for some in self._cut(leaf_hashes):
            self.size += len(some)
            yield from self._append(0, some)

    def _cut(self, leaf_hashes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """In parts that end where tiles end."""
        free = TILE_WIDTH - self.size % TILE_WIDTH
        yield leaf_hashes[:free]
        yield from batched(leaf_hashes[free:], TILE_WIDTH)

    def _append(self, level: int, hashes: Sequence[bytes]) -> Iterator[Tile]:
        if len(self._levels) == level:
            self._levels.append([])
        unfinished = self._levels[level]
        unfinished.extend(hashes)
        if len(unfinished) == TILE_WIDTH:
            number = (self.size >> TILE_HEIGHT * (level + 1)) - 1
            yield Tile(Place(level, number, TILE_WIDTH), b"".join(unfinished))
            top = merkle.root(merkle.extend((), 0, unfinished).frontier)
            unfinished.clear()
            yield from self._append(level + 1, [top])

    def unfinished(self) -> list[Tile]:
        """The tiles at the right edge."""
        return [Tile(place, b"".join(self._levels[place.level])) for place in places_at(self.size)]

    def frontier(self) -> merkle.Frontier:
        """The perfect subtrees, largest first: those of the highest level are the largest."""
        parts = (merkle.extend((), 0, hashes).frontier for hashes in reversed(self._levels))
        return tuple(chain.from_iterable(parts))

    def root(self) -> bytes:
        return merkle.root(self.frontier())


def split(hashes: bytes) -> list[bytes]:
    """The hashes of a tile, one by one."""
    size = merkle.HASH_BYTES
    return [hashes[at : at + size] for at in range(0, len(hashes), size)]

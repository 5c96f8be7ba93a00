"""Names the files that the tree and its entries are divided into: C2SP tlog-tiles, as pure
functions.

A tile is TILE_WIDTH neighbouring hashes of one level of the tree; a bundle is the entries below a
tile of level 0. The last tile or bundle may be partial: its name then contains its width.
"""

import re
from typing import NamedTuple

from firmtrail.eventstore.merkle import TILE_HEIGHT, TILE_WIDTH

PATTERN = (
    r"(?:x(?!000)[0-9]{3}/(?:x[0-9]{3}/){0,4})?[0-9]{3}"
    r"(?:\.p/(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)
"""Matches the path of a tile after its level. Each tile has exactly one path: it has no leading
group of zeros, and ".p/" only before a width below TILE_WIDTH."""

_matches = re.compile(PATTERN).fullmatch


class Tile(NamedTuple):
    """Names a tile or bundle: `width` neighbours of one level, from number * TILE_WIDTH on."""

    number: int
    width: int = TILE_WIDTH


def parse(path: str) -> Tile | None:
    """Returns the tile at this path; None for any other text."""
    if _matches(path) is None:
        return None
    number, _, width = path.partition(".p/")
    return Tile(int(number.replace("x", "").replace("/", "")), int(width or TILE_WIDTH))


def path(tile: Tile) -> str:
    """Returns the tile's path: x001/x234/067, 067.p/8."""
    digits = str(tile.number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    joined = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return joined if tile.width == TILE_WIDTH else f"{joined}.p/{tile.width}"


def is_within(level: int, tile: Tile, size: int) -> bool:
    """Returns whether a tree of this size contains all of the tile."""
    return (tile.number * TILE_WIDTH + tile.width) << TILE_HEIGHT * level <= size


def tiles(level: int, size: int) -> tuple[int, int]:
    """Returns how many full tiles a level of a tree has, and the width of its partial one, or 0."""
    return divmod(size >> TILE_HEIGHT * level, TILE_WIDTH)

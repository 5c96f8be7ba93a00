"""How the tree and its entries are cut into files: C2SP tlog-tiles, as pure functions.

A tile is TILE_WIDTH neighbours of one level of the tree, a bundle the entries below a tile of level
0. The last of each may be partial, and is named by its width.
"""

import re
from typing import NamedTuple

from firmtrail.eventstore.merkle import TILE_HEIGHT, TILE_WIDTH

PATTERN = (
    r"(?:x(?!000)[0-9]{3}/(?:x[0-9]{3}/){0,4})?[0-9]{3}"
    r"(?:\.p/(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)
"""The path of a tile behind its level. Each tile has one: no leading group of zeros, and ".p/" only
before a width below TILE_WIDTH."""

_matches = re.compile(PATTERN).fullmatch


class Tile(NamedTuple):
    """A tile or a bundle of some level: `width` neighbours from number * TILE_WIDTH on."""

    number: int
    width: int = TILE_WIDTH


def parse(path: str) -> Tile | None:
    """The tile at this path; None where it is none's."""
    if _matches(path) is None:
        return None
    number, _, width = path.partition(".p/")
    return Tile(int(number.replace("x", "").replace("/", "")), int(width or TILE_WIDTH))


def path(tile: Tile) -> str:
    """The tile's path: x001/x234/067, 067.p/8."""
    digits = str(tile.number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    joined = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    return joined if tile.width == TILE_WIDTH else f"{joined}.p/{tile.width}"


def is_within(level: int, tile: Tile, size: int) -> bool:
    """Whether a tree of this size has all of the tile."""
    return (tile.number * TILE_WIDTH + tile.width) << TILE_HEIGHT * level <= size


def tiles(level: int, size: int) -> tuple[int, int]:
    """How many full tiles a level of a tree has, and how wide its partial one is, 0 for none."""
    return divmod(size >> TILE_HEIGHT * level, TILE_WIDTH)

"""Each tile has one path, and a tree has the tiles that C2SP tlog-tiles defines."""

import json
from pathlib import Path

import pytest

from firmtrail.eventstore import tiles
from firmtrail.eventstore.tiles import Tile

VECTORS = json.loads((Path(__file__).parent / "data" / "tlog-vectors.json").read_text())


@pytest.mark.parametrize(("number", "path"), VECTORS["paths"].items())
def test_a_number_is_written_in_groups_of_three(number: str, path: str) -> None:
    assert tiles.path(Tile(int(number))) == path
    assert tiles.path(Tile(int(number), 17)) == f"{path}.p/17"
    assert tiles.parse(path) == Tile(int(number), 256)
    assert tiles.parse(f"{path}.p/17") == Tile(int(number), 17)


def test_every_width_has_its_own_path() -> None:
    for width in range(1, 257):
        assert tiles.parse(tiles.path(Tile(7, width))) == Tile(7, width)


@pytest.mark.parametrize(
    "path",
    [
        *("", "0", "00", "0000", "1000", "x000", "x001", "x000/001", "x000/x000/001", "001/001"),
        *("x001/x002", "x001/1", "x1/001", "X001/001", "x001//001", "/001", "001/", "001/x002"),
        *("000.p", "000.p/", "000.p/0", "000.p/00", "000.p/01", "000.p/256", "000.p/300"),
        *("000.p/-1", "000.p/+1", "000.p/1/", "000.p/1.p/1", "000.p/1000", "000.P/1", "000.p/x01"),
        *("-01", " 000", "000\n", "000.p/1\n", "٠٠٠", "000.p/٣", "x999/" * 6 + "999", "a", "%00"),  # noqa: RUF001 (digits that are not ASCII)
    ],
)
def test_no_other_text_is_a_tile(path: str) -> None:
    assert tiles.parse(path) is None


@pytest.mark.parametrize("size", [70_000])
def test_a_tree_has_the_tiles_of_the_published_example(size: int) -> None:
    published = VECTORS[f"tiles_{size}"]
    assert [list(tiles.tiles(level, size)) for level in range(3)] == [*published.values()]
    assert tiles.tiles(3, size) == (0, 0)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 70_000])
def test_a_tree_has_no_other_tiles(size: int) -> None:
    for level in range(64):
        full, partial = tiles.tiles(level, size)
        for width in range(1, 257):
            assert tiles.is_within(level, Tile(full, width), size) == (width <= partial)
        assert full == 0 or tiles.is_within(level, Tile(full - 1), size)
        assert not tiles.is_within(level, Tile(full + 1, 1), size)

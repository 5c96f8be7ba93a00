"""An auditor's own tiles and root are those of RFC 6962, read from any place on."""

import pytest

from firmtrail.audit.edge import Edge, Place, Tile, places_at, split
from firmtrail.eventstore.merkle import TILE_WIDTH, leaf_hash
from tests.end_to_end.truth import root

pytestmark = pytest.mark.slow

SIZES = (0, 1, 2, 3, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, 70_000)
ENTRIES = [str(number).encode() for number in range(max(SIZES))]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1, 100, 256, 1_000])
def test_the_root_is_that_of_the_entries_in_whatever_parts_they_came(size: int, step: int) -> None:
    if step == 1 and size > 600:
        size = 600
    edge = Edge()
    for start in range(0, size, step):
        list(edge.extend(LEAVES[start : min(start + step, size)]))
    assert edge.size == size
    assert edge.root() == root(ENTRIES[:size])


def test_the_tiles_are_those_that_the_format_names() -> None:
    edge = Edge()
    tiles = [*edge.extend(LEAVES[:70_000]), *edge.unfinished()]
    found = {tile.place: tile.hashes for tile in tiles}
    assert len(found) == len(tiles) == 273 + 1 + 1 + 1 + 1
    assert found[Place(0, 273, 112)] == b"".join(LEAVES[69_888:70_000])
    assert found[Place(1, 1, 17)][:32] == root(ENTRIES[65_536 : 65_536 + TILE_WIDTH])
    assert found[Place(2, 0, 1)] == root(ENTRIES[:65_536])


@pytest.mark.parametrize("size", [1, 255, 256, 300, 65_536, 66_000])
def test_an_edge_goes_on_from_its_unfinished_tiles(size: int) -> None:
    before = Edge()
    tiles = {tile.place: tile for tile in [*before.extend(LEAVES[:size]), *before.unfinished()]}
    edge = Edge(size, [tiles[place] for place in places_at(size)])
    assert edge.root() == root(ENTRIES[:size])
    list(edge.extend(LEAVES[size:70_000]))
    assert edge.root() == root(ENTRIES[:70_000])


def test_a_tile_splits_into_its_hashes() -> None:
    assert split(b"".join(LEAVES[:3])) == LEAVES[:3]
    assert Tile(Place(0, 0, 0), b"").hashes == b""

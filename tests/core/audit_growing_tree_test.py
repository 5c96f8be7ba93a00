"""An auditor's own tiles and root are those of RFC 6962, read from any position on."""

import pytest

from firmtrail.audit.growing_tree import GrowingTree, HashTile, TileId, split, unfinished_tiles
from firmtrail.eventstore.merkle import TILE_WIDTH, leaf_hash
from tests.end_to_end.truth import root

pytestmark = pytest.mark.slow

SIZES = (0, 1, 2, 3, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537, 70_000)
ENTRIES = [str(number).encode() for number in range(max(SIZES))]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1, 100, 256, 1_000])
def test_the_root_does_not_depend_on_how_the_entries_are_split(size: int, step: int) -> None:
    if step == 1 and size > 600:
        size = 600
    tree = GrowingTree()
    for start in range(0, size, step):
        list(tree.extend(LEAVES[start : min(start + step, size)]))
    assert tree.size == size
    assert tree.root() == root(ENTRIES[:size])


def test_the_tiles_are_those_of_the_format() -> None:
    tree = GrowingTree()
    tiles = [*tree.extend(LEAVES[:70_000]), *tree.unfinished()]
    found = {tile.id: tile.hashes for tile in tiles}
    assert len(found) == len(tiles) == 273 + 1 + 1 + 1 + 1
    assert found[TileId(0, 273, 112)] == b"".join(LEAVES[69_888:70_000])
    assert found[TileId(1, 1, 17)][:32] == root(ENTRIES[65_536 : 65_536 + TILE_WIDTH])
    assert found[TileId(2, 0, 1)] == root(ENTRIES[:65_536])


@pytest.mark.parametrize("size", [1, 255, 256, 300, 65_536, 66_000])
def test_a_tree_continues_from_its_unfinished_tiles(size: int) -> None:
    before = GrowingTree()
    tiles = {tile.id: tile for tile in [*before.extend(LEAVES[:size]), *before.unfinished()]}
    tree = GrowingTree(size, [tiles[each] for each in unfinished_tiles(size)])
    assert tree.root() == root(ENTRIES[:size])
    list(tree.extend(LEAVES[size:70_000]))
    assert tree.root() == root(ENTRIES[:70_000])


def test_a_tile_splits_into_its_hashes() -> None:
    assert split(b"".join(LEAVES[:3])) == LEAVES[:3]
    assert HashTile(TileId(0, 0, 0), b"").hashes == b""

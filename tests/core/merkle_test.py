"""The tree is that of RFC 6962: it has the published values and follows the definition
literally."""

import json
from hashlib import sha256
from itertools import repeat
from pathlib import Path

import pytest

from firmtrail.eventstore import merkle

pytestmark = pytest.mark.slow

VECTORS = json.loads((Path(__file__).parent / "data" / "tlog-vectors.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves_hex"]]
SIZE_MAX = 600
ENTRIES = [f"entry {n}".encode() for n in range(SIZE_MAX)]


def tree_hash(entries: list[bytes]) -> bytes:
    """Returns MTH of RFC 6962, section 2.1."""
    n = len(entries)
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1 << (n - 1).bit_length() - 1  # the largest power of two smaller than n
    return sha256(b"\x01" + tree_hash(entries[:k]) + tree_hash(entries[k:])).digest()


def frontier_of(entries: list[bytes]) -> merkle.Frontier:
    return merkle.extend((), 0, map(merkle.leaf_hash, entries)).frontier


def test_leaves_hash_as_published() -> None:
    assert [merkle.leaf_hash(leaf).hex() for leaf in LEAVES] == VECTORS["leaf_hash"]


@pytest.mark.parametrize("size", range(len(LEAVES) + 1))
def test_roots_are_as_published(size: int) -> None:
    assert merkle.root(frontier_of(LEAVES[:size])).hex() == VECTORS["root"][str(size)]


def test_every_root_is_as_defined() -> None:
    frontier: merkle.Frontier = ()
    for size, entry in enumerate(ENTRIES):
        assert merkle.root(frontier) == tree_hash(ENTRIES[:size]), size
        frontier = merkle.extend(frontier, size, [merkle.leaf_hash(entry)]).frontier
    assert merkle.root(frontier) == tree_hash(ENTRIES)


def test_the_frontier_has_a_hash_for_each_set_bit_of_the_size() -> None:
    for size in range(0, SIZE_MAX, 7):
        assert len(frontier_of(ENTRIES[:size])) == size.bit_count()


@pytest.mark.parametrize("middle", [0, 1, 63, 64, 300, SIZE_MAX])
def test_appending_in_two_steps_equals_appending_in_one(middle: int) -> None:
    first = frontier_of(ENTRIES[:middle])
    second = merkle.extend(first, middle, map(merkle.leaf_hash, ENTRIES[middle:]))
    assert second.frontier == frontier_of(ENTRIES)


def test_a_subtree_is_returned_with_the_leaf_that_completes_it() -> None:
    frontier: merkle.Frontier = ()
    found: list[tuple[int, merkle.Subtree]] = []
    for size, entry in enumerate(ENTRIES):
        frontier, completed = merkle.extend(frontier, size, [merkle.leaf_hash(entry)])
        found += [(size, subtree) for subtree in completed]
    first, second = tree_hash(ENTRIES[:256]), tree_hash(ENTRIES[256:512])
    assert found == [(255, (1, 0, first)), (511, (1, 1, second))]


@pytest.mark.parametrize("step", [1, 1000, 65_535, 65_536, 200_000])
def test_subtrees_of_every_level_are_returned_once_and_in_order(step: int) -> None:
    """If all leaves are equal, so are all subtrees of a level."""
    leaf = merkle.leaf_hash(b"")
    levels = [leaf]
    for _ in range(2):
        node = levels[-1]
        for _ in range(merkle.TILE_HEIGHT):
            node = merkle.node_hash(node, node)
        levels.append(node)
    frontier: merkle.Frontier = ()
    found: list[merkle.Subtree] = []
    for size in range(0, 200_000, step):
        leaves = repeat(leaf, min(step, 200_000 - size))
        frontier, completed = merkle.extend(frontier, size, leaves)
        found += completed
    assert [each for each in found if each.level == 1] == [
        (1, number, levels[1]) for number in range(200_000 // 256)
    ]
    assert [each for each in found if each.level > 1] == [
        (2, number, levels[2]) for number in range(200_000 // 65_536)
    ]


@pytest.mark.parametrize("size", [0, 1, 7, 64])
def test_a_frontier_can_be_stored_as_text_and_read_back(size: int) -> None:
    frontier = frontier_of(ENTRIES[:size])
    assert merkle.from_text(merkle.to_text(frontier)) == frontier

"""The tree is RFC 6962's: its published values, and its definition taken by the word."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from firmtrail.eventstore import merkle

VECTORS = json.loads((Path(__file__).parent / "data" / "merkle-vectors.json").read_text())
LEAVES = [bytes.fromhex(leaf) for leaf in VECTORS["leaves_hex"]]
SIZE_MAX = 600
ENTRIES = [f"entry {n}".encode() for n in range(SIZE_MAX)]


def tree_hash(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    n = len(entries)
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1 << (n - 1).bit_length() - 1  # the largest power of two smaller than n
    return sha256(b"\x01" + tree_hash(entries[:k]) + tree_hash(entries[k:])).digest()


def frontier_of(entries: list[bytes]) -> merkle.Frontier:
    return merkle.extend((), 0, map(merkle.leaf_hash, entries))


def test_leaves_hash_as_published() -> None:
    assert [merkle.leaf_hash(leaf).hex() for leaf in LEAVES] == VECTORS["leaf_hash"]


@pytest.mark.parametrize("size", range(len(LEAVES) + 1))
def test_roots_are_as_published(size: int) -> None:
    assert merkle.root(frontier_of(LEAVES[:size])).hex() == VECTORS["root"][str(size)]


def test_every_root_is_the_definitions_own() -> None:
    frontier: merkle.Frontier = ()
    for size, entry in enumerate(ENTRIES):
        assert merkle.root(frontier) == tree_hash(ENTRIES[:size]), size
        frontier = merkle.extend(frontier, size, [merkle.leaf_hash(entry)])
    assert merkle.root(frontier) == tree_hash(ENTRIES)


def test_the_frontier_has_a_hash_for_each_set_bit_of_the_size() -> None:
    for size in range(0, SIZE_MAX, 7):
        assert len(frontier_of(ENTRIES[:size])) == size.bit_count()


@pytest.mark.parametrize("middle", [0, 1, 63, 64, 300, SIZE_MAX])
def test_appending_in_two_steps_is_appending_in_one(middle: int) -> None:
    first = frontier_of(ENTRIES[:middle])
    second = merkle.extend(first, middle, map(merkle.leaf_hash, ENTRIES[middle:]))
    assert second == frontier_of(ENTRIES)


@pytest.mark.parametrize("size", [0, 1, 7, 64])
def test_a_frontier_survives_its_text(size: int) -> None:
    frontier = frontier_of(ENTRIES[:size])
    assert merkle.from_text(merkle.to_text(frontier)) == frontier

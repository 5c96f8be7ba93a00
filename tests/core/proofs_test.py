"""Proofs are those of RFC 6962: they have the published values, follow the definition literally,
and no other proof verifies.

The tests make the proofs of every pair of sizes and positions up to SIZE_MAX. They verify some of
them, and alter those in all sorts of ways, each of which must fail.
"""

import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from firmtrail.eventstore import merkle, proofs
from firmtrail.eventstore.proofs import LeafRange, PerfectSubtree, TreeHead
from tests.inclusion import verify_inclusion
from tests.reference import Reference

pytestmark = pytest.mark.slow

VECTORS = json.loads((Path(__file__).parent / "data" / "tlog-vectors.json").read_text())
SIZE_MAX = 600
LARGE_MAX = 70_000
CHANCE = random.Random(6962)


class Made:
    """Makes the product's proofs of the tree of some entries."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.leaves = [merkle.leaf_hash(entry) for entry in entries]
        self.root_of = cache(self._root_of)
        self.perfect = cache(self._perfect)

    def _root_of(self, leaves: LeafRange) -> bytes:
        return merkle.root(
            tuple(self.perfect(subtree) for subtree in proofs.perfect_subtrees(leaves))
        )

    def _perfect(self, subtree: PerfectSubtree) -> bytes:
        height, number = subtree
        leaves = self.leaves[number << height : (number + 1) << height]
        [root] = merkle.extend((), 0, leaves).frontier
        return root

    def head(self, size: int) -> TreeHead:
        return TreeHead(size, self.root_of(LeafRange(0, size)))

    def inclusion(self, position: int, size: int) -> list[bytes]:
        return [self.root_of(each) for each in proofs.inclusion(position, size)]

    def consistency(self, old: int, new: int) -> list[bytes]:
        return [self.root_of(each) for each in proofs.consistency(old, new)]


PUBLISHED = Made([bytes.fromhex(leaf) for leaf in VECTORS["leaves_hex"]])
ENTRIES = [f"entry {n}".encode() for n in range(LARGE_MAX)]
MADE, REFERENCE = Made(ENTRIES), Reference(ENTRIES)
LARGE = [CHANCE.randrange(SIZE_MAX, LARGE_MAX) for _ in range(12)] + [65_535, 65_536, 65_537]


def hexes(proof: list[bytes]) -> list[str]:
    return [node.hex() for node in proof]


@pytest.mark.parametrize(("name", "proof"), VECTORS["inclusion"].items())
def test_inclusion_is_proved_as_published(name: str, proof: list[str]) -> None:
    position, size = map(int, name.split("/"))
    assert hexes(PUBLISHED.inclusion(position, size)) == proof
    assert PUBLISHED.head(size).root.hex() == VECTORS["root"][str(size)]
    assert includes(PUBLISHED, [bytes.fromhex(node) for node in proof], position, size)


@pytest.mark.parametrize(("name", "proof"), VECTORS["consistency"].items())
def test_consistency_is_proved_as_published(name: str, proof: list[str]) -> None:
    old, new = map(int, name.split("->"))
    assert hexes(PUBLISHED.consistency(old, new)) == proof
    assert grows(PUBLISHED, [bytes.fromhex(node) for node in proof], old, new)


def includes(made: Made, proof: list[bytes], position: int, size: int) -> bool:
    return verify_inclusion(proof, position, made.leaves[position], made.head(size))


def grows(made: Made, proof: list[bytes], old: int, new: int) -> bool:
    return proofs.verify_consistency(proof, made.head(old), made.head(new))


def test_every_inclusion_proof_is_as_defined() -> None:
    for size in range(1, SIZE_MAX + 1):
        for position in range(size):
            proof = MADE.inclusion(position, size)
            assert proof == REFERENCE.inclusion(position, size), (position, size)


def test_every_consistency_proof_is_as_defined() -> None:
    for new in range(SIZE_MAX + 1):
        for old in range(new + 1):
            assert MADE.consistency(old, new) == REFERENCE.consistency(old, new), (old, new)


@pytest.mark.parametrize("size", [*range(1, 70), *range(70, SIZE_MAX, 31), SIZE_MAX])
def test_every_proof_verifies(size: int) -> None:
    for position in range(size):
        assert includes(MADE, MADE.inclusion(position, size), position, size), position
        assert grows(MADE, MADE.consistency(position, size), position, size), position
    assert grows(MADE, [], size, size)


@pytest.mark.parametrize("size", LARGE)
def test_proofs_of_large_trees_are_as_defined(size: int) -> None:
    assert MADE.head(size).root == REFERENCE.root(size)
    for position in [0, size // 2, size - 1, *(CHANCE.randrange(size) for _ in range(20))]:
        proof = MADE.inclusion(position, size)
        assert proof == REFERENCE.inclusion(position, size), position
        assert includes(MADE, proof, position, size), position
        proof = MADE.consistency(position, size)
        assert proof == REFERENCE.consistency(position, size), position
        assert grows(MADE, proof, position, size), position


def altered(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Yields the proof with one bit flipped in each of its hashes, and longer, shorter,
    reordered."""
    for at, node in enumerate(proof):
        yield [*proof[:at], flipped(node), *proof[at + 1 :]]
    yield [*proof, bytes(32)]
    if proof:
        yield proof[1:]
        yield proof[:-1]
        yield [*proof, proof[-1]]
    if len(proof) > 1:
        yield proof[::-1]


def flipped(node: bytes) -> bytes:
    bit = CHANCE.randrange(len(node) * 8)
    return (int.from_bytes(node) ^ 1 << bit).to_bytes(len(node))


def pairs() -> list[tuple[int, int]]:
    """Draws a position below a size, small or large, often next to a power of two."""
    sizes = (*range(1, 34), 127, 128, 129, 255, 256, 257, SIZE_MAX, *LARGE[:3])
    return [
        (position, size)
        for size in sizes
        for position in sorted({0, 1, size // 2, size - 1})
        if position < size
    ]


@pytest.mark.parametrize(("position", "size"), pairs())
def test_an_altered_inclusion_proof_fails(position: int, size: int) -> None:
    proof, leaf, head = MADE.inclusion(position, size), MADE.leaves[position], MADE.head(size)
    assert verify_inclusion(proof, position, leaf, head)
    for wrong in altered(proof):
        assert not verify_inclusion(wrong, position, leaf, head)
    for elsewhere in {0, position - 1, position + 1, size, size + position, -1} - {position}:
        assert not verify_inclusion(proof, elsewhere, leaf, head), elsewhere
    assert not verify_inclusion(proof, position, flipped(leaf), head)
    assert not verify_inclusion(proof, position, leaf, TreeHead(size, flipped(head.root)))
    assert not verify_inclusion(proof, position, leaf, TreeHead(2 * size + 1, head.root))


@pytest.mark.parametrize(("old", "new"), pairs())
def test_an_altered_consistency_proof_fails(old: int, new: int) -> None:
    proof, before, after = MADE.consistency(old, new), MADE.head(old), MADE.head(new)
    assert proofs.verify_consistency(proof, before, after)
    for wrong in altered(proof):
        assert not proofs.verify_consistency(wrong, before, after)
    wrong_before, wrong_after = flipped(before.root), flipped(after.root)
    assert not proofs.verify_consistency(proof, TreeHead(old, wrong_before), after)
    assert old == 0 or not proofs.verify_consistency(proof, before, TreeHead(new, wrong_after))
    assert not proofs.verify_consistency(proof, after, before)
    assert not proofs.verify_consistency(proof, TreeHead(-1, before.root), after)


def test_a_tree_is_consistent_only_with_itself_at_its_size() -> None:
    for size in (0, 1, 2, 3, 256, 600):
        head = MADE.head(size)
        assert proofs.verify_consistency([], head, head)
        assert not proofs.verify_consistency([], head, TreeHead(size, flipped(head.root)))


def test_nothing_is_in_an_empty_tree() -> None:
    assert not verify_inclusion([], 0, merkle.EMPTY_ROOT, TreeHead(0, merkle.EMPTY_ROOT))

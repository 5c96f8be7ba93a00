"""Proves that an entry is in a tree, or that a tree grew from a smaller one.

RFC 6962, sections 2.1.1 and 2.1.2, as pure functions. A proof is a list of roots, each of a range
of leaves. The ranges follow from positions and sizes alone, so the same few lines determine which
hashes a proof needs and how a verifier combines them. `tree` looks up each range by the perfect
subtrees that make it up.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from firmtrail.eventstore.merkle import EMPTY_ROOT, node_hash


class TreeHead(NamedTuple):
    """Holds the size and root of a tree, which a checkpoint signs."""

    size: int
    root: bytes


class LeafRange(NamedTuple):
    """Names the leaves at start <= position < stop."""

    start: int
    stop: int


class PerfectSubtree(NamedTuple):
    """Names a perfect subtree of 2 ** height leaves: the number-th such subtree from the left."""

    height: int
    number: int


def inclusion(position: int, size: int) -> list[LeafRange]:
    """Returns the ranges whose roots prove that a leaf is in a tree: PATH, the leaf's side
    first."""
    assert 0 <= position < size
    ranges, whole = [], LeafRange(0, size)
    while whole.stop - whole.start > 1:
        left, right = _halves(whole)
        inside, sibling = (left, right) if position < left.stop else (right, left)
        ranges.append(sibling)
        whole = inside
    return ranges[::-1]


def consistency(old: int, new: int) -> list[LeafRange]:
    """Returns the ranges whose roots prove that a tree grew from `old` to `new` leaves: PROOF.

    There are none where the old tree is empty: every tree grew from that.
    """
    assert 0 <= old <= new
    if old == 0:
        return []
    ranges, whole = [], LeafRange(0, new)
    while whole.stop > old:
        left, right = _halves(whole)
        inside, sibling = (left, right) if old <= left.stop else (right, left)
        ranges.append(sibling)
        whole = inside
    if whole.start > 0:  # else it is the old tree, whose root is known
        ranges.append(whole)
    return ranges[::-1]


def _halves(whole: LeafRange) -> tuple[LeafRange, LeafRange]:
    """Splits at the largest power of two that is smaller than the number of leaves."""
    middle = whole.start + (1 << (whole.stop - whole.start - 1).bit_length() - 1)
    return LeafRange(whole.start, middle), LeafRange(middle, whole.stop)


def perfect_subtrees(leaves: LeafRange) -> Iterator[PerfectSubtree]:
    """Yields the perfect subtrees that make up a range of a proof, or a whole tree, largest first.

    Their hashes, joined by `merkle.root`, are the range's root.
    """
    start, stop = leaves
    while start < stop:
        height = (stop - start).bit_length() - 1
        yield PerfectSubtree(height, start >> height)
        start += 1 << height


def verify_consistency(proof: Sequence[bytes], old: TreeHead, new: TreeHead) -> bool:
    """Returns whether the proof shows that the new tree begins with all leaves of the old one."""
    if not 0 <= old.size <= new.size:
        return False
    ranges = consistency(old.size, new.size)
    if len(proof) != len(ranges):
        return False
    if old.size == 0:
        return old.root == EMPTY_ROOT and (new.size > 0 or new.root == EMPTY_ROOT)
    return _roots(list(zip(ranges, proof, strict=True)), old) == (old.root, new.root)


def _roots(parts: list[tuple[LeafRange, bytes]], old: TreeHead) -> tuple[bytes, bytes]:
    """Returns the roots of both trees as the proof computes them.

    Both trees contain the part at the old tree's end and everything left of it; only the new tree
    contains the parts to the right. An old tree that is perfect is itself that part.
    """
    smaller = larger = old.root
    if parts and parts[0][0].stop == old.size:
        smaller = larger = parts.pop(0)[1]
    for leaves, sibling in parts:
        if leaves.start >= old.size:
            larger = node_hash(larger, sibling)
        else:
            smaller, larger = node_hash(sibling, smaller), node_hash(sibling, larger)
    return smaller, larger

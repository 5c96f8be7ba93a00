"""What proves that an entry is in a tree, or that a tree grew out of a smaller one?

RFC 6962, sections 2.1.1 and 2.1.2, as pure functions. A proof is a list of roots, each of a range
of leaves; which ranges follows from positions and sizes alone. So the same few lines say which
hashes a proof needs and how they are put together again, and whoever makes a proof looks up each
range by the perfect subtrees that it is made of.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from firmtrail.eventstore.merkle import EMPTY_ROOT, node_hash


class TreeHead(NamedTuple):
    """A tree of so many leaves, by its root; what a checkpoint signs."""

    size: int
    root: bytes


class Range(NamedTuple):
    """The leaves at start <= position < stop."""

    start: int
    stop: int


class Perfect(NamedTuple):
    """A perfect subtree: 2 ** height leaves, the number-th such from the left."""

    height: int
    number: int


def inclusion(position: int, size: int) -> list[Range]:
    """The ranges whose roots prove a leaf of a tree: PATH, the leaf's side first."""
    assert 0 <= position < size
    ranges, whole = [], Range(0, size)
    while whole.stop - whole.start > 1:
        left, right = _halves(whole)
        inside, beside = (left, right) if position < left.stop else (right, left)
        ranges.append(beside)
        whole = inside
    return ranges[::-1]


def consistency(old: int, new: int) -> list[Range]:
    """The ranges whose roots prove that a tree grew from `old` to `new` leaves: PROOF.

    None where the old tree is empty, which everything grew out of.
    """
    assert 0 <= old <= new
    if old == 0:
        return []
    ranges, whole = [], Range(0, new)
    while whole.stop > old:
        left, right = _halves(whole)
        inside, beside = (left, right) if old <= left.stop else (right, left)
        ranges.append(beside)
        whole = inside
    if whole.start > 0:  # else it is the old tree, whose root is known
        ranges.append(whole)
    return ranges[::-1]


def _halves(whole: Range) -> tuple[Range, Range]:
    """Split at the largest power of two that is smaller than the number of leaves."""
    middle = whole.start + (1 << (whole.stop - whole.start - 1).bit_length() - 1)
    return Range(whole.start, middle), Range(middle, whole.stop)


def perfect(leaves: Range) -> Iterator[Perfect]:
    """The perfect subtrees that a range of a proof, or a whole tree, is made of, largest first.

    Their hashes, joined by `merkle.root`, are the range's root.
    """
    start, stop = leaves
    while start < stop:
        height = (stop - start).bit_length() - 1
        yield Perfect(height, start >> height)
        start += 1 << height


def verify_inclusion(
    proof: Sequence[bytes], position: int, leaf_hash: bytes, head: TreeHead
) -> bool:
    """Whether the proof shows that this leaf is at `position` in the tree."""
    if not 0 <= position < head.size:
        return False
    ranges = inclusion(position, head.size)
    if len(proof) != len(ranges):
        return False
    node = leaf_hash
    for leaves, beside in zip(ranges, proof, strict=True):
        is_right = leaves.start > position
        node = node_hash(node, beside) if is_right else node_hash(beside, node)
    return node == head.root


def verify_consistency(proof: Sequence[bytes], old: TreeHead, new: TreeHead) -> bool:
    """Whether the proof shows that the new tree begins with all leaves of the old one."""
    if not 0 <= old.size <= new.size:
        return False
    ranges = consistency(old.size, new.size)
    if len(proof) != len(ranges):
        return False
    if old.size == 0:
        return old.root == EMPTY_ROOT and (new.size > 0 or new.root == EMPTY_ROOT)
    return _roots(list(zip(ranges, proof, strict=True)), old) == (old.root, new.root)


def _roots(parts: list[tuple[Range, bytes]], old: TreeHead) -> tuple[bytes, bytes]:
    """The roots of both trees as the proof has them.

    They share the part that the old tree ends with, and what is left of it; what is right of it is
    the new tree's alone. An old tree that is perfect is that part itself.
    """
    smaller = larger = old.root
    if parts and parts[0][0].stop == old.size:
        smaller = larger = parts.pop(0)[1]
    for leaves, beside in parts:
        if leaves.start >= old.size:
            larger = node_hash(larger, beside)
        else:
            smaller, larger = node_hash(beside, smaller), node_hash(beside, larger)
    return smaller, larger

"""Computes the Merkle tree over the log: RFC 6962, section 2.1, as pure functions.

The tree of a growing log is stored as its frontier: the roots of the perfect subtrees that make up
its size, largest first (one for each set bit of the size, so at most 63). Appending one leaf costs
one leaf hash and, on average, one node hash.

The position of an entry is its index in the tree. The position itself is not hashed.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
"""One level, as C2SP tlog-tiles counts levels, is TILE_HEIGHT binary heights of the tree: a hash at
level n is the root of TILE_WIDTH ** n leaves."""

_LAST = TILE_WIDTH - 1

type Frontier = tuple[bytes, ...]

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree of size 0 (RFC 6962: the hash of an empty string)."""


class Subtree(NamedTuple):
    """Holds the root of TILE_WIDTH ** level leaves: the number-th such subtree from the left."""

    level: int
    number: int
    hash: bytes


class ExtendedTree(NamedTuple):
    """Describes a tree after leaves were appended to it."""

    frontier: Frontier
    completed: list[Subtree]
    """The subtrees of level 1 and above that these leaves completed, in the order of completion."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def extend(frontier: Frontier, size: int, leaf_hashes: Iterable[bytes]) -> ExtendedTree:
    """Returns the tree of `size` leaves after these leaves are appended to it.

    Each trailing set bit of the size is a perfect subtree that the next leaf completes.
    """
    stack = list(frontier)
    completed: list[Subtree] = []
    for leaf in leaf_hashes:
        node, number, level = leaf, size, 0
        while number & _LAST == _LAST:
            for _ in range(TILE_HEIGHT):
                node = node_hash(stack.pop(), node)
            number >>= TILE_HEIGHT
            level += 1
            completed.append(Subtree(level, number, node))
        while number & 1:
            node = node_hash(stack.pop(), node)
            number >>= 1
        stack.append(node)
        size += 1
    return ExtendedTree(tuple(stack), completed)


def root(frontier: Frontier) -> bytes:
    """Returns the root of the tree, or of any part of it, that these perfect subtrees make up: they
    are joined from the smallest to the largest."""
    if not frontier:
        return EMPTY_ROOT
    *larger, node = frontier
    for subtree in reversed(larger):
        node = node_hash(subtree, node)
    return node


def to_text(frontier: Frontier) -> str:
    return b"".join(frontier).hex()


def from_text(text: str) -> Frontier:
    joined = bytes.fromhex(text)
    return tuple(joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES))

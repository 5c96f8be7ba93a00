"""The Merkle tree over the log: RFC 6962, section 2.1, as pure functions.

The tree of a growing log is carried as its frontier: the roots of the perfect subtrees that its
size is made of, largest first (one for each set bit of the size, so at most 63). Appending one leaf
costs one leaf hash and, on average, one node hash.

The position of an entry is its index in the tree and is not part of what is hashed.
"""

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32

type Frontier = tuple[bytes, ...]

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree of size 0 (RFC 6962: the hash of an empty string)."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def extend(frontier: Frontier, size: int, leaf_hashes: Iterable[bytes]) -> Frontier:
    """The frontier of the tree of `size` leaves after these leaves are appended to it.

    Each trailing set bit of the size is a perfect subtree that the next leaf completes.
    """
    stack = list(frontier)
    for leaf in leaf_hashes:
        node, completed = leaf, size
        while completed & 1:
            node = node_hash(stack.pop(), node)
            completed >>= 1
        stack.append(node)
        size += 1
    return tuple(stack)


def root(frontier: Frontier) -> bytes:
    """The tree's root: the perfect subtrees joined from the smallest up."""
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

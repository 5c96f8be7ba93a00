"""Verifies that a proof shows an entry in a tree, as an auditor does."""

from collections.abc import Sequence

from firmtrail.eventstore.merkle import node_hash
from firmtrail.eventstore.proofs import TreeHead, inclusion


def verify_inclusion(
    proof: Sequence[bytes], position: int, leaf_hash: bytes, head: TreeHead
) -> bool:
    """Returns whether the proof shows that this leaf is at `position` in the tree."""
    if not 0 <= position < head.size:
        return False
    ranges = inclusion(position, head.size)
    if len(proof) != len(ranges):
        return False
    node = leaf_hash
    for leaves, sibling in zip(ranges, proof, strict=True):
        is_right = leaves.start > position
        node = node_hash(node, sibling) if is_right else node_hash(sibling, node)
    return node == head.root

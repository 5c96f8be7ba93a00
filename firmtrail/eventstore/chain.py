"""Chains rows: the head after a row is a hash of the head before it and of the row. Pure.

The head after N rows shows whether any of these rows was changed, removed, added or moved. Heads
are SHA-256 in hex; the head of no rows is the empty text.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

START = ""


def extended(head: str, rows: Iterable[Sequence[int | str | None]]) -> str:
    """Returns the head after these rows, in their order."""
    for row in rows:
        head = sha256(f"{head}\n".encode() + msgspec.json.encode(tuple(row))).hexdigest()
    return head

"""Declares the archive that has the texts of pruned entries, and how an entry is named in it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Stub(NamedTuple):
    """Names an entry that was pruned."""

    log_id: int
    position: int
    leaf_hash: str
    """The hash of the entry as a leaf of the tree (RFC 6962, 2.1), as hexadecimal digits."""

    def __str__(self) -> str:
        return f"#{self.log_id}/{self.position}/{self.leaf_hash}"


class EntryArchive(Protocol):
    """Holds the texts of entries that were pruned."""

    async def found(self, stubs: Sequence[Stub]) -> dict[Stub, str]:
        """Returns the texts that the archive has at these places, unchecked; those that it lacks
        are left out. Raises `EntriesAway` if it does not answer in time."""

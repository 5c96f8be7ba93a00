"""Declares the store of published checkpoints: kept outside the database, changed by compare and
set.

A database that is rolled back takes its own checkpoints along; a store outside it keeps them.
`published_file` keeps them in a file, `published_bucket` in a bucket.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

type Notes = dict[str, str]
"""origin -> the last checkpoint published of it, as its signed note."""


class BadStore(Exception):
    """The store holds something other than checkpoints, or can't compare and set."""


class NoteChange(NamedTuple):
    """Replaces the note that must be there (None: there is none) by the next one."""

    before: str | None
    after: str


class CheckpointStore(Protocol):
    """Keeps the last published checkpoint of each log. Every method raises OSError or
    `BadStore`."""

    @property
    def idle_read_s(self) -> float:
        """Returns how often the store is read while no log grows; 0: in every round."""
        ...

    async def read(self) -> Notes:
        """Returns everything that is published."""
        ...

    async def compare_and_set(self, changes: Mapping[str, NoteChange]) -> frozenset[str]:
        """Makes the changes whose `before` is what the store holds; returns their origins. They are
        durable when it returns. If it raises, each of them may have been made or not."""
        ...

    async def check(self) -> None:
        """Raises if checkpoints can't be read, or if nothing can be written."""
        ...

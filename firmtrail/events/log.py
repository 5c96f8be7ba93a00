"""Declares the events of the log itself, and of the data kept next to it."""

from typing import ClassVar

from firmtrail.events.event import Event


class TextErased(Event, frozen=True):
    """Records that the free text of the event at `position` was erased, with its salt."""

    VERSION: ClassVar[int] = 2

    position: int
    """The position of the event whose text was erased."""
    log: int | None = None
    """The number of an older log of the project, if the event is in that log."""


class AccessRecordSealed(Event, frozen=True):
    """Records that the first `size` rows of the project's access record chain to `head`."""

    size: int
    """The number of rows that the seal covers."""
    head: str
    """The hash of the chain after these rows, in hex."""


class AccessRecordTrimmed(Event, frozen=True):
    """Records that the first `size` rows of the project's access record are deleted. A seal before
    it covers exactly these rows."""

    size: int
    """The number of rows, counted from the first that was ever recorded."""


class LogContinued(Event, frozen=True):
    """Records that this log continues the first `size` events of the project's log number `log`.

    `checkpoint` is the last checkpoint that was published of that log, as its signed note. If it
    signs a size above `size`, the events in between are lost.
    """

    log: int
    """The number of the old log in the project."""
    size: int
    """The number of its events that are left."""
    checkpoint: str | None = None
    """Its last published checkpoint, a signed note."""

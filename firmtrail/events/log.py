"""Declares the events of the log itself, and of the data kept next to it."""

from typing import ClassVar

import msgspec

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


class ProjectMoveStarted(Event, frozen=True):
    """Records that the project is moved to another database, and that this log takes no further
    events. If the move is undone, the log continues with `ProjectMoveUndone`."""

    to: str
    """The name of the instance that the project is moved to."""
    address: str
    """The address that requests are sent on to when the project has moved."""


class ProjectMoveUndone(Event, frozen=True):
    """Records that a move was undone before anything was recorded in the other instance: in the log
    here, which continues, and in the log there, which takes no further events."""

    to: str
    """The name of the instance that the project was to be moved to."""


class ProjectArrived(Event, frozen=True):
    """Records that the project was moved here from another instance, with its logs up to number
    `log`. Those stay as they were, with the origins and signatures of that instance, except those
    that an earlier event of this kind names."""

    log: int
    """The number of the last log that was moved."""
    key: str
    """The verifier key of that log: a line with its origin."""
    people: dict[str, str] = msgspec.field(default_factory=dict)
    """Ids of people in the moved logs who have another id here, with that id."""

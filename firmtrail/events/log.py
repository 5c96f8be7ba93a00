"""What happens to the log itself and to what is kept next to it."""

from typing import ClassVar

from firmtrail.events.event import Event


class TextErased(Event, frozen=True):
    """The text of the event at `position` is gone, and its salt."""

    VERSION: ClassVar[int] = 2

    position: int
    log: int | None = None
    """The number of an older log of the project, where the event is not in this one."""


class AccessRecordSealed(Event, frozen=True):
    """The first `size` rows of the project's access record chain to `head`."""

    size: int
    head: str


class LogContinued(Event, frozen=True):
    """This log continues the first `size` events of the project's log number `log`.

    `checkpoint` is the last one that was published of that log, as its signed note; where `size`
    is below the size that it signs, what is between them is lost.
    """

    log: int
    size: int
    checkpoint: str | None = None

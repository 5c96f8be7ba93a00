"""What every event is: a frozen struct that says of itself how it is recorded."""

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fact, in the past tense."""

    VERSION: ClassVar[int] = 1
    IS_CONTROL: ClassVar[bool] = False
    """Whether it changes what devices should run."""
    IS_NUDGE: ClassVar[bool] = False
    """Whether one device, if it waits for an answer, should be looked at again."""
    TEXT: ClassVar[str | None] = None
    """The member that is `sha256(salt || text)` in hex of the free text beside the log."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An event with its place in the log."""

    position: int
    recorded_at_ms: int
    stream: str
    """The CloudEvents subject: "device/<id>", "user/<id>", …"""
    event_id: str
    actor: str
    event: Event

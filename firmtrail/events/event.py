"""Declares what all events have in common: each is a frozen struct, and says how it is recorded."""

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records a fact; named in the past tense."""

    VERSION: ClassVar[int] = 1
    IS_CONTROL: ClassVar[bool] = False
    """Whether the event changes what devices should run."""
    IS_NUDGE: ClassVar[bool] = False
    """Whether the event may change the answer to one device, if that waits for it."""
    TEXT: ClassVar[str | None] = None
    """The member with the hex of `sha256(salt || text)`; the free text is kept outside the log."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """Holds an event with its place in the log."""

    position: int
    recorded_at_ms: int
    stream: str
    """The CloudEvents subject: "device/<id>", "user/<id>", …"""
    event_id: str
    actor: str
    event: Event

"""The rules of questions: a device is asked which version it runs, and a report answers.

A question is open until a report of what runs names it, or it expires. It has a place in the
device's order, the device's last place when it was asked: a report of an earlier place says what
ran before the question, and does not answer it.
"""

import msgspec
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import REPORTS, Status
from firmtrail.events.steering import Asked
from firmtrail.events.times import time_ms
from firmtrail.rules.device import MOVING


class Question(msgspec.Struct, frozen=True, gc=False):
    """A question to a device, and its answer."""

    device: str
    question: str
    position: int
    asked_at_ms: int
    expires_at_ms: int
    answered_position: int | None = None
    answered_at_ms: int | None = None
    version: str | None = None
    """The answer."""
    place: int = -1
    """The device's last place when it was asked."""


def asked(device: str, recorded: Recorded, place: int = -1) -> Question:
    event = recorded.event
    assert isinstance(event, Asked)
    return Question(
        device,
        event.question,
        recorded.position,
        recorded.recorded_at_ms,
        time_ms(event.expires_at),
        place=place,
    )


def is_open(ask: Question | None, now_ms: int) -> bool:
    return ask is not None and ask.answered_position is None and now_ms < ask.expires_at_ms


def is_answered_by(ask: Question | None, place: int, now_ms: int) -> bool:
    """Returns whether a report at this place, which names the question, answers it."""
    return is_open(ask, now_ms) and ask is not None and place >= ask.place


def answers(status: Status) -> bool:
    """Returns whether a report of this status says what runs; what failed, or is on its way, does
    not."""
    return status in MOVING


def answered(ask: Question, recorded: Recorded) -> Question:
    """Returns the question after a report that answers it, while it is open."""
    event = recorded.event
    assert isinstance(event, REPORTS)
    return replace(
        ask,
        answered_position=recorded.position,
        answered_at_ms=recorded.recorded_at_ms,
        version=event.version,
    )

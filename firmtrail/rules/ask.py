"""Decides which report answers a question: a device is asked which version it runs.

A question is open until it expires, or until a report of a running version names it. Its place in
the device's order is the device's last place when it was asked: a report with an earlier place says
what ran before the question, and does not answer it.
"""

import msgspec
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import REPORTS, Status
from firmtrail.events.steering import Asked
from firmtrail.events.times import time_ms
from firmtrail.rules.device import MOVING


class Question(msgspec.Struct, frozen=True, gc=False):
    """Holds a question to a device, and its answer."""

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
    """Returns the question that an Asked event begins."""
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


def is_open(question: Question | None, now_ms: int) -> bool:
    return (
        question is not None
        and question.answered_position is None
        and now_ms < question.expires_at_ms
    )


def is_answered_by(question: Question | None, place: int, now_ms: int) -> bool:
    """Returns whether a report at this place, which names the question, answers it."""
    return is_open(question, now_ms) and question is not None and place >= question.place


def answers(status: Status) -> bool:
    """Returns whether a report of this status says what runs. A failure or a progress does not."""
    return status in MOVING


def answered(question: Question, recorded: Recorded) -> Question:
    """Returns the question after a report that answers it, while it is open."""
    event = recorded.event
    assert isinstance(event, REPORTS)
    return replace(
        question,
        answered_position=recorded.position,
        answered_at_ms=recorded.recorded_at_ms,
        version=event.version,
    )

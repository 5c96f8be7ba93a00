"""A question to a device: which report answers it, and until when."""

import pytest

from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import FirmwareRunning
from firmtrail.events.steering import Asked
from firmtrail.rules import ask

EXPIRES_MS = 60_000


def recorded(event: Event, position: int = 0, at_ms: int = 0) -> Recorded:
    return Recorded(position, at_ms, "device/d1", "e", "actor", event)


@pytest.fixture
def question() -> ask.Question:
    event = Asked("q1", "1970-01-01T00:01:00.000Z")
    return ask.asked("d1", recorded(event, position=7, at_ms=1_000), place=5)


def test_a_question_is_open_until_it_expires(question: ask.Question) -> None:
    assert question.expires_at_ms == EXPIRES_MS
    assert ask.is_open(question, EXPIRES_MS - 1)
    assert not ask.is_open(question, EXPIRES_MS)
    assert not ask.is_open(None, 0)


@pytest.mark.parametrize(("place", "is_answer"), [(4, False), (5, True), (6, True)])
def test_a_report_from_before_the_question_is_no_answer(
    question: ask.Question, place: int, is_answer: bool
) -> None:
    assert ask.is_answered_by(question, place, 2_000) is is_answer


def test_an_expired_question_and_an_unknown_one_get_no_answer(question: ask.Question) -> None:
    assert not ask.is_answered_by(question, 6, EXPIRES_MS)
    assert not ask.is_answered_by(None, 6, 0)


def test_only_a_running_version_is_an_answer() -> None:
    assert [ask.answers(each) for each in ("installed", "running")] == [True, True]
    assert not any(ask.answers(each) for each in ("failed", "rejected", "installing", "rebooting"))


def test_an_answer_closes_the_question(question: ask.Question) -> None:
    answer = recorded(FirmwareRunning("1.2.0", question="q1"), position=9, at_ms=3_000)
    closed = ask.answered(question, answer)
    assert (closed.answered_position, closed.answered_at_ms, closed.version) == (9, 3_000, "1.2.0")
    assert not ask.is_open(closed, 4_000)

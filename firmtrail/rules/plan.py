"""Computes which phase of its plan a rollout is in, at any time.

A plan is a list of phases; each reaches more devices than the one before. A phase ends when its
condition holds, and its time is over; the next one begins at that moment. That a condition holds is
an event. That time passes needs none: no timer decides, so a phase begins at the right time even if
no server ran then.

Time while the rollout is paused, or the project halted, does not count.
"""

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from firmtrail.events.steering import PlanPhase

PLAN_PHASES_MAX = 20
"""Limits the phases of one plan, as a person gives it."""

ROLLOUT_PHASES_MAX = 100
"""Limits the phases of a rollout in all: those that it began, and those that follow. It is higher
than that of a plan, since a changed plan follows the phases that began."""


class HaltedTime(NamedTuple):
    """Holds the time from which a project was halted, and the time at which the halt ended."""

    begin_ms: int
    end_ms: int | None = None
    """None: it has not ended."""


type Halts = Sequence[HaltedTime]
"""The halts of a project: one after the other, and none overlaps the next."""


class PlanClock(NamedTuple):
    """Says which phase of its plan a rollout is in, and how much of its time has passed."""

    phase: int
    """The phase, from 0."""
    began_at_ms: int
    spent_ms: int
    """The time of the phase that had passed at `counted_at_ms`, without pauses and halts."""
    counted_at_ms: int
    is_met: bool = False
    """Whether the condition of the phase was met."""


def begun(index: int, at_ms: int) -> PlanClock:
    """Returns the clock of a phase that begins."""
    return PlanClock(index, at_ms, 0, at_ms)


def at(plan: Sequence[PlanPhase], clock: PlanClock, halts: Halts, now_ms: int) -> PlanClock:
    """Returns the clock as it is at `now_ms`, if nothing else was recorded and the rollout is not
    paused. A time before `counted_at_ms` changes nothing."""
    *_, clock = clocks(plan, clock, halts, now_ms)
    if now_ms <= clock.counted_at_ms:
        return clock
    passed_ms = counted_ms(halts, clock.counted_at_ms, now_ms)
    return clock._replace(spent_ms=clock.spent_ms + passed_ms, counted_at_ms=now_ms)


def beginnings(plan: Sequence[PlanPhase], clock: PlanClock, halts: Halts) -> list[int]:
    """Returns when time alone will begin each later phase, if nothing else is recorded."""
    _, *later = clocks(plan, clock, halts, sys.maxsize)
    return [each.began_at_ms for each in later]


def clocks(
    plan: Sequence[PlanPhase], clock: PlanClock, halts: Halts, now_ms: int
) -> Iterator[PlanClock]:
    """Yields the clock, and that of each phase that time alone has begun until `now_ms`."""
    yield clock
    while (end_ms := phase_end(plan, clock, halts)) is not None and end_ms <= now_ms:
        clock = begun(clock.phase + 1, end_ms)
        yield clock


def phase_end(plan: Sequence[PlanPhase], clock: PlanClock, halts: Halts) -> int | None:
    """Returns when time alone ends the phase. Returns None for the last phase, and for one that
    waits: for outcomes, for a person, or for the end of a halt."""
    phase = plan[clock.phase]
    is_last = clock.phase == len(plan) - 1
    waits = not clock.is_met and (phase.installed_percent is not None or phase.after_s is None)
    return None if is_last or waits else _time_is_over(phase, clock, halts)


def earliest_end(plan: Sequence[PlanPhase], clock: PlanClock, halts: Halts) -> int | None:
    """Returns the time before which the phase can't end automatically. Returns None for the last
    phase, and for one that only a person ends."""
    phase = plan[clock.phase]
    is_manual = phase.installed_percent is None and phase.after_s is None
    if clock.phase == len(plan) - 1 or is_manual:
        return None
    return _time_is_over(phase, clock, halts)


def _time_is_over(phase: PlanPhase, clock: PlanClock, halts: Halts) -> int | None:
    left_ms = max(0, (phase.after_s or 0) * 1000 - clock.spent_ms)
    return time_after(halts, clock.counted_at_ms, left_ms)


def is_met(phase: PlanPhase, installed: int, failed: int) -> bool:
    """Returns whether the outcomes of the offers made in the phase meet its condition."""
    if phase.installed_percent is None or phase.min_reports is None:
        return False
    outcomes = installed + failed
    return outcomes >= phase.min_reports and 100 * installed >= phase.installed_percent * outcomes


def counted_ms(halts: Halts, begin_ms: int, end_ms: int) -> int:
    """Returns the length of a time without its halts."""
    halted_ms = sum(
        max(0, min(end_ms, halt.end_ms or end_ms) - max(begin_ms, halt.begin_ms))
        for halt in _from(halts, begin_ms)
    )
    return end_ms - begin_ms - halted_ms


def time_after(halts: Halts, begin_ms: int, counted_ms: int) -> int | None:
    """Returns the time at which so much time has passed without halts. Returns None if a halt that
    has not ended comes first.

    A halt that begins at that very time comes too late: devices may have learned of the phase that
    begins then, and a rollout only grows.
    """
    now_ms, left_ms = begin_ms, counted_ms
    for halt in _from(halts, begin_ms):
        before_ms = halt.begin_ms - now_ms
        if left_ms <= before_ms:
            break
        if halt.end_ms is None:
            return None
        left_ms -= max(0, before_ms)
        now_ms = halt.end_ms
    return now_ms + left_ms


def _from(halts: Halts, begin_ms: int) -> Halts:
    """Returns the halts that end after this time."""
    ended = bisect_right(halts, begin_ms, key=lambda halt: halt.end_ms or begin_ms + 1)
    return halts[ended:]

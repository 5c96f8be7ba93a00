"""Puts the phases of a rollout on a timeline: how far each is, when it began, and when it ends.

Times that are not known yet are those that follow if nothing fails and nobody intervenes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.rules import phases
from firmtrail.rules.phases import PhaseProgress, PhaseTimes, Windows
from firmtrail.rules.rollout import PlanTime, RolloutState


class PlanStep(NamedTuple):
    """Holds a phase on the timeline."""

    progress: PhaseProgress
    begins_at_ms: int | None
    """When it began, or is expected to begin; None: when a person says so."""
    ends_at_ms: int | None
    is_expected: bool
    """Whether it has not begun yet."""


def expected_steps(found: RolloutState, at: PlanTime, windows: Windows) -> list[PlanStep]:
    """Returns the timeline of a rollout that begins now, or at its start."""
    return steps(found, at, (), windows)


def steps(
    found: RolloutState, at: PlanTime, times: Sequence[PhaseTimes], windows: Windows
) -> list[PlanStep]:
    """Returns the timeline of a rollout; `times` has the phases that began, and `windows` is what
    `phases.windows_of` returns. The expected times of a rollout that waits for approval are
    None."""
    lines = phases.progress(found, at, times, windows)
    ahead = phases.forecast(found, at, windows)
    begins = [
        expected.begins_at_ms if line.times.began_at_ms is None else line.times.began_at_ms
        for line, expected in zip(lines, ahead, strict=True)
    ]
    ends = [*begins[1:], *[None] * bool(begins)]
    return [
        PlanStep(line, begin, end, line.state == "next")
        for line, begin, end in zip(lines, begins, ends, strict=True)
    ]

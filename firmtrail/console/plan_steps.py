"""Puts the phases of a rollout on a timeline: how far each is, when it began, and when it ends.

Times that are not known yet are those that follow if nothing fails and nobody intervenes. A rollout
that is over has none.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.rules import phases
from firmtrail.rules.outlook import Outlook
from firmtrail.rules.phases import PhaseProgress, PhaseTimes
from firmtrail.rules.rollout import PlanTime, RolloutState


class PlanStep(NamedTuple):
    """Holds a phase on the timeline."""

    progress: PhaseProgress
    begins_at_ms: int | None
    """When it began, or is expected to begin; None: nobody knows, or it never began."""
    ends_at_ms: int | None
    is_expected: bool
    """Whether it has not begun yet."""


def expected_steps(found: RolloutState, at: PlanTime, outlook: Outlook) -> list[PlanStep]:
    """Returns the timeline of a rollout that begins now, or at its start."""
    return steps(found, at, (), outlook)


def steps(
    found: RolloutState, at: PlanTime, times: Sequence[PhaseTimes], outlook: Outlook
) -> list[PlanStep]:
    """Returns the timeline of a rollout; `times` has the phases that began. The expected times of a
    rollout that waits for approval are None, and so are those after a phase that may never end."""
    lines = phases.progress(found, at, times, outlook)
    ahead = phases.forecast(found, at, outlook)
    begins = [
        expected.begins_at_ms if line.times.began_at_ms is None else line.times.began_at_ms
        for line, expected in zip(lines, ahead, strict=True)
    ]
    ends = [*begins[1:], *[None] * bool(begins)]
    return [
        PlanStep(line, begin, end, line.state == "next")
        for line, begin, end in zip(lines, begins, ends, strict=True)
    ]

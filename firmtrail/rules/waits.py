"""Says in sentences what a rollout waits for: its start, approvals, a window or its phase."""

from collections.abc import Iterator, Sequence

from firmtrail.events.steering import Window
from firmtrail.events.times import time_text
from firmtrail.rules import phases, window
from firmtrail.rules.control import Control
from firmtrail.rules.outlook import window_of
from firmtrail.rules.phases import PhaseProgress
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.settings import RolloutWindow


def waits(
    now: Control, found: RolloutState, now_ms: int, plan: Sequence[PhaseProgress]
) -> list[str]:
    """Returns in sentences why a rollout offers nothing at this time, or not to all of its devices,
    and why a phase of its plan may never end. A rollout that is over waits for nothing."""
    if phases.state_in(now, found, now_ms) in {"aborted", "withdrawn"}:
        return []
    return [
        *_halt(now, found),
        *_beginning(now, found, now_ms),
        *_phase(plan),
        *(each.endless for each in plan if each.endless is not None),
    ]


def _halt(now: Control, found: RolloutState) -> Iterator[str]:
    if now.halt == "all" or (now.halt == "rollouts" and not found.is_rollback):
        yield "The project is halted: it offers nothing until the halt ends."


def _beginning(now: Control, found: RolloutState, now_ms: int) -> Iterator[str]:
    state = phases.state_in(now, found, now_ms)
    if state == "waiting":
        yield f"It waits for approvals: it has {len(found.approved_by)} of {found.approvals}."
    is_early = found.start_at_ms is not None and now_ms < found.start_at_ms
    if is_early and state in {"waiting", "scheduled"}:
        yield f"It starts at {time_text(found.start_at_ms or 0)}."
    if state == "running":
        yield from _window(window_of(now, found), now_ms)


def _window(counting: RolloutWindow, now_ms: int) -> Iterator[str]:
    title, times, cohorts = counting
    if times is not None:
        yield f"{title} {_opens(times, now_ms)}."
    if cohorts:
        yield f"These cohorts have windows of their own: {', '.join(sorted(cohorts))}."


def _opens(times: Window, now_ms: int) -> str:
    if times.timezone == window.DEVICE_ZONE:
        return f"({times.cron}) opens by the clock of each device"
    if window.is_open(times, times.timezone, now_ms):
        return "is open"
    opening_ms = window.next_opening(times, times.timezone, now_ms)
    return "is closed" if opening_ms is None else f"is closed, and opens at {time_text(opening_ms)}"


def _phase(plan: Sequence[PhaseProgress]) -> Iterator[str]:
    for number, each in enumerate(plan, 1):
        if each.state == "current" and each.times.began_at_ms is not None:
            says = f"Phase {number} of {len(plan)} ({each.phase.reach / 100:g} %) began at "
            says += time_text(each.times.began_at_ms)
            yield f"{says}{_end_of(each, is_last=number == len(plan))}."


def _end_of(current: PhaseProgress, *, is_last: bool) -> str:
    """Returns what the next phase waits for."""
    phase = current.phase
    if is_last:
        return ", and is the last"
    if phase.installed_percent is None and phase.after_s is None:
        return ", and ends when a person advances the rollout"
    is_open = phase.installed_percent is not None and current.times.met_at_ms is None
    outcomes = f"{phase.min_reports} outcomes with {phase.installed_percent} % installs"
    waits_for = f", waits for {outcomes}" if is_open else ""
    if current.endless is not None:
        return waits_for
    if current.earliest_end_ms is None:
        return f"{waits_for}, and its time does not count while it is paused or halted"
    earliest = " at the earliest" if is_open else ""
    return f"{waits_for}, and ends at {time_text(current.earliest_end_ms)}{earliest}"

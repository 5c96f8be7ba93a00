"""Computes when each phase of a rollout's plan began, from the rollout's own events.

The state of a rollout holds only the present phase. The times of all phases are asked for rarely,
so they are folded from the few events of the rollout each time.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.steering import PlanPhase, RolloutPhaseMet
from firmtrail.rules import plan, rollout
from firmtrail.rules.control import Control, is_over
from firmtrail.rules.plan import PlanClock
from firmtrail.rules.rollout import LiveState, PlanTime, RolloutState

type ShownState = LiveState | Literal["withdrawn"]

FORECAST_MS = 100 * 366 * 86_400_000
"""Later than any plan ends: its phases are few, and each lasts a year at most."""


STUCK_MS = 24 * 60 * 60 * 1000
"""A phase whose condition is not met this long after its time is over makes a rollout stuck."""


class PhaseTimes(NamedTuple):
    """Holds when a phase began, and when its condition was met."""

    began_at_ms: int | None = None
    met_at_ms: int | None = None


class PhaseProgress(NamedTuple):
    """Holds a phase of a plan, and how far it is."""

    phase: PlanPhase
    state: Literal["done", "current", "next"]
    times: PhaseTimes
    earliest_end_ms: int | None
    """The time before which the next phase does not begin automatically; only of the current
    phase, while its time passes."""


class ExpectedPhase(NamedTuple):
    """Holds when a phase begins and ends if nothing fails; None: only a person knows."""

    begins_at_ms: int | None
    ends_at_ms: int | None


class RolloutPast(NamedTuple):
    """Holds a rollout as it was at a time, and the times of its phases up to then."""

    state: RolloutState
    times: tuple[PhaseTimes, ...]


def past(events: Iterable[Recorded], at: PlanTime) -> RolloutPast:
    """Returns the rollout after these events of its stream, beginning with its start."""
    first, *later = events
    state = rollout.started(first)
    times: dict[int, PhaseTimes] = {}
    for each in later:
        _note(times, state, PlanTime(each.recorded_at_ms, at.halts))
        state = rollout.evolve(state, each, at.halts)
        if isinstance(each.event, RolloutPhaseMet):
            phase = each.event.phase
            times[phase] = times[phase]._replace(met_at_ms=each.recorded_at_ms)
        _note(times, state, PlanTime(each.recorded_at_ms, at.halts))
    _note(times, state, at)
    count = max(times, default=-1) + 1
    return RolloutPast(state, tuple(times.get(n, PhaseTimes()) for n in range(count)))


def _note(times: dict[int, PhaseTimes], state: RolloutState, at: PlanTime) -> None:
    """Notes the phases that began until this time."""
    if state.clock is None or not state.is_approved:
        return
    clocks = [state.clock]
    if state.is_ticking:
        clocks = list(plan.clocks(state.plan, state.clock, at.halts, at.now_ms))
    for clock in clocks:
        if clock.began_at_ms <= at.now_ms:
            times.setdefault(clock.phase, PhaseTimes(clock.began_at_ms))


def expected(state: RolloutState, now: PlanTime, later_ms: int) -> RolloutPast:
    """Returns the rollout as it is now at a later time, if every condition is met as soon as the
    phase's time is over, and nobody intervenes."""
    at = PlanTime(later_ms, now.halts)
    waited = tuple(
        replace(phase, after_s=phase.after_s or 0, installed_percent=None, min_reports=None)
        if phase.installed_percent is not None
        else phase
        for phase in state.plan
    )
    times: dict[int, PhaseTimes] = {}
    expecting = replace(state, plan=waited, clock=rollout.clock_at(state, now))
    _note(times, expecting, at)
    clock: PlanClock | None = rollout.clock_at(expecting, at)
    count = max(times, default=-1) + 1
    found = tuple(times.get(n, PhaseTimes()) for n in range(count))
    return RolloutPast(replace(state, clock=clock), found)


def forecast(state: RolloutState, now: PlanTime) -> list[ExpectedPhase]:
    """Returns when each phase begins and ends, as `expected` has it. Phases that ended before now
    have no times here."""
    times = expected(state, now, now.now_ms + FORECAST_MS).times
    begins = [*(each.began_at_ms for each in times), *[None] * (len(state.plan) + 1)]
    return [ExpectedPhase(begins[n], begins[n + 1]) for n in range(len(state.plan))]


def stuck(phases: Sequence[PlanPhase], matching: int, begun: int = 0) -> list[str]:
    """Returns a sentence for each phase whose condition needs more outcomes than it offers. The
    first `begun` phases are left out."""
    reached = [0, *(matching * each.reach / rollout.BUCKETS for each in phases)]
    return [
        f"Phase {n + 1} waits for {phase.min_reports} reports, but reaches only about "
        f"{round(reached[n + 1] - reached[n])} more devices: it may never end."
        for n, phase in enumerate(phases[:-1])
        if n >= begun
        if phase.min_reports is not None and phase.min_reports > reached[n + 1] - reached[n]
    ]


def state_in(control: Control, found: RolloutState, now_ms: int) -> ShownState:
    """Returns the state of a rollout at this time, as the API names it: `withdrawn` if its release
    was withdrawn before it was aborted."""
    if is_over(control, found) and found.phase != "aborted":
        return "withdrawn"
    return rollout.state_at(found, now_ms)


def is_offering(control: Control, found: RolloutState, now_ms: int) -> bool:
    """Returns whether a rollout offers its release at this time: it runs, nothing is halted, and
    its release was not withdrawn."""
    return control.halt is None and state_in(control, found, now_ms) == "running"


def stuck_since_ms(control: Control, found: RolloutState, now_ms: int) -> int | None:
    """Returns since when the present phase waits for its condition for too long. Returns None if it
    does not, if the rollout offers nothing now, and for a rollout without a plan."""
    at = PlanTime(now_ms, control.halts)
    return _late_since_ms(found, at) if is_offering(control, found, now_ms) else None


def _late_since_ms(state: RolloutState, at: PlanTime) -> int | None:
    clock = rollout.clock_at(state, at)
    if clock is None or clock.is_met or clock.phase == len(state.plan) - 1:
        return None
    phase = state.plan[clock.phase]
    late_ms = clock.spent_ms - (phase.after_s or 0) * 1000 - STUCK_MS
    return at.now_ms - late_ms if phase.installed_percent is not None and late_ms >= 0 else None


def progress(state: RolloutState, at: PlanTime, times: Sequence[PhaseTimes]) -> list[PhaseProgress]:
    """Returns how far the phases of a rollout are at a time. `times` has those that began."""
    clock = rollout.clock_at(state, at)
    begun = rollout.begun_phases(replace(state, clock=clock), at.now_ms)
    done = 0 if clock is None else clock.phase
    is_timed = clock is not None and state.is_ticking
    end_ms = plan.earliest_end(state.plan, clock, at.halts) if clock and is_timed else None
    unknown = [PhaseTimes()] * (len(state.plan) - len(times))
    return [
        PhaseProgress(
            phase,
            "done" if n < done else "current" if n < begun else "next",
            own,
            end_ms if n == begun - 1 else None,
        )
        for n, (phase, own) in enumerate(zip(state.plan, [*times, *unknown], strict=True))
    ]

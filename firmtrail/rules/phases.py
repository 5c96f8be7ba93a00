"""Computes when each phase of a rollout's plan began, from the rollout's own events.

The state of a rollout holds only the present phase. The times of all phases are asked for rarely,
so they are folded from the few events of the rollout each time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.steering import PlanPhase, RolloutPhaseMet
from firmtrail.events.times import DAY_MS
from firmtrail.rules import plan, rollout, window
from firmtrail.rules.control import Control, is_over
from firmtrail.rules.outlook import Outlook, Windows
from firmtrail.rules.plan import Halts, PlanClock
from firmtrail.rules.rollout import LiveState, PlanTime, RolloutState

type ShownState = LiveState | Literal["withdrawn"]

FORECAST_MS = 1_000 * 366 * DAY_MS
"""Later than any plan ends: at most 20 phases are to come, each lasts a year at most, and
waits for a window that opens at least every 40 years, as one on a fifth Monday of February."""


STUCK_MS = DAY_MS
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
    phase, while its time passes, and unless its condition can't be met."""
    endless: str | None
    """Why its condition can't be met, in a sentence; None if it can, or was."""


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


def expected(state: RolloutState, now: PlanTime, later_ms: int, outlook: Outlook) -> RolloutPast:
    """Returns the rollout as it is now at a later time, if nobody intervenes, and every condition
    that can be met is met as soon as the phase's time is over and a window has been open in it. A
    rollout that is over stays as it is at `now`, the time when it ended."""
    clock = state.clock
    later_ms = now.now_ms if outlook.is_over else later_ms
    if clock is None or not state.is_approved:
        return RolloutPast(state, ())
    clocks, later = [clock], PlanTime(later_ms, now.halts)
    if state.is_ticking:
        clocks = [*plan.clocks(state.plan, clock, now.halts, now.now_ms)]
        present = plan.at(state.plan, clocks[-1], now.halts, now.now_ms)
        clocks += _expected_clocks(state.plan, present, later, outlook)
        clock = plan.at(state.plan, clocks[-1], now.halts, later_ms)
    begun = {each.phase: each.began_at_ms for each in clocks if each.began_at_ms <= later_ms}
    times = tuple(PhaseTimes(begun.get(n)) for n in range(max(begun, default=-1) + 1))
    return RolloutPast(replace(state, clock=clock), times)


def _expected_clocks(
    phases: Sequence[PlanPhase], clock: PlanClock, later: PlanTime, outlook: Outlook
) -> Iterator[PlanClock]:
    """Yields the clock, and that of each phase that is expected to begin until `later`."""
    yield clock
    while (end_ms := _earliest_end(phases, clock, later.halts, outlook)) is not None:
        if end_ms > later.now_ms:
            return
        clock = plan.begun(clock.phase + 1, end_ms)
        yield clock


def _earliest_end(
    phases: Sequence[PlanPhase], clock: PlanClock, halts: Halts, outlook: Outlook
) -> int | None:
    """Returns the time before which a phase can't end automatically; None if nothing but a person
    ends it. A condition can't be met before a device was offered something in the phase."""
    end_ms = None if outlook.is_over else plan.earliest_end(phases, clock, halts)
    if end_ms is None or clock.is_met or phases[clock.phase].installed_percent is None:
        return end_ms
    if clock.phase in outlook.endless:
        return None
    offer_ms = _first_offer(outlook.windows, halts, clock.began_at_ms)
    return None if offer_ms is None else max(end_ms, offer_ms)


def _first_offer(windows: Windows, halts: Halts, from_ms: int) -> int | None:
    """Returns the first time, `from_ms` or later, at which a window is open and nothing halted."""
    offer_ms = window.first_open(windows, from_ms)
    if offer_ms is None:
        return None
    running_ms = plan.time_after(halts, offer_ms, 0)
    if running_ms is None or running_ms == offer_ms:
        return running_ms
    return _first_offer(windows, halts, running_ms)


def forecast(state: RolloutState, now: PlanTime, outlook: Outlook) -> list[ExpectedPhase]:
    """Returns when each phase begins and ends, as `expected` has it. Phases that ended before
    the last event of the rollout have no times here."""
    times = expected(state, now, now.now_ms + FORECAST_MS, outlook).times
    begins = [*(each.began_at_ms for each in times), *[None] * (len(state.plan) + 1)]
    return [ExpectedPhase(begins[n], begins[n + 1]) for n in range(len(state.plan))]


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


def progress(
    state: RolloutState, at: PlanTime, times: Sequence[PhaseTimes], outlook: Outlook
) -> list[PhaseProgress]:
    """Returns how far the phases of a rollout are at a time. `times` has those that began."""
    clock = rollout.clock_at(state, at)
    begun = rollout.begun_phases(replace(state, clock=clock), at.now_ms)
    done = 0 if clock is None else clock.phase
    is_timed = clock is not None and state.is_ticking
    end_ms = _earliest_end(state.plan, clock, at.halts, outlook) if clock and is_timed else None
    unknown = [PhaseTimes()] * (len(state.plan) - len(times))
    return [
        PhaseProgress(
            phase,
            "done" if n < done else "current" if n < begun else "next",
            own,
            end_ms if n == begun - 1 else None,
            outlook.endless.get(n),
        )
        for n, (phase, own) in enumerate(zip(state.plan, [*times, *unknown], strict=True))
    ]

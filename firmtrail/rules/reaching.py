"""Says which phase of a rollout's plan reaches a device, and when that phase begins where time
alone decides."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from firmtrail.events.times import time_text
from firmtrail.rules import plan, rollout
from firmtrail.rules.control import is_over
from firmtrail.rules.phases import PhaseTimes
from firmtrail.rules.plan import PlanClock
from firmtrail.rules.rollout import PlanTime, RolloutState
from firmtrail.rules.situation import Situation
from firmtrail.rules.version import is_higher


class Reaching(NamedTuple):
    """Holds the phase of a plan that reaches a device."""

    phase: int | None
    """The phase, from 0; None if the plan ends before it reaches the device."""
    state: Literal["done", "current", "next"] | None
    """How far the phase is; None without one."""
    begins_at_ms: int | None
    """When the phase began, or begins if time alone decides; None if anything else does."""
    says: str
    """The same in a sentence."""


def planned(situation: Situation) -> RolloutState | None:
    """Returns the newest rollout with a plan that is meant for the device and leads to a higher
    version than it runs, if there is one that is not over."""
    device, control = situation.device, situation.control
    for each in control.deciding.get((device.model or "", None), ()):
        is_meant = bool(each.plan) and rollout.is_meant(each, device) and not is_over(control, each)
        if is_meant and _is_news(device.version, each):
            return each
    return None


def _is_news(runs: str | None, found: RolloutState) -> bool:
    return runs is None or (found.version is not None and is_higher(found.version, runs))


def reaching(
    found: RolloutState, device: str, at: PlanTime, times: Sequence[PhaseTimes]
) -> Reaching:
    """Returns the phase of the plan that reaches the device. `times` has those of the phases that
    began, as `phases.past` returns them."""
    bucket = rollout.bucket(found.id, device)
    first = next((n for n, each in enumerate(found.plan) if bucket < each.reach), None)
    if first is None:
        most = found.plan[-1].reach / 100
        says = f"The plan of rollout {found.id} ends at {most:g} % and does not reach it."
        return Reaching(None, None, None, says)
    began = [(n, each.began_at_ms) for n, each in enumerate(times) if n >= first]
    for number, began_at_ms in began:
        if began_at_ms is not None:
            return _begun(found, number, began_at_ms, is_last=number == len(times) - 1)
    return _coming(found, first, at)


def _begun(found: RolloutState, number: int, began_at_ms: int, *, is_last: bool) -> Reaching:
    says = f"{_title(found, number)} has reached it since {time_text(began_at_ms)}."
    return Reaching(number, "current" if is_last else "done", began_at_ms, says)


def _coming(found: RolloutState, number: int, at: PlanTime) -> Reaching:
    """Returns a phase that has not begun."""
    says = f"{_title(found, number)} will reach it"
    if not found.is_approved:
        return Reaching(number, "next", None, f"{says}. The rollout waits for approval.")
    if found.phase == "paused":
        return Reaching(number, "next", None, f"{says}. The rollout is paused.")
    clock = rollout.clock_at(found, at)
    assert clock is not None, "an approved rollout with a plan has a clock"
    while clock.phase < number:
        end_ms = plan.phase_end(found.plan, clock, at.halts)
        if end_ms is None:
            return Reaching(number, "next", None, f"{says}. {_waits(found, clock)}.")
        clock = plan.begun(clock.phase + 1, end_ms)
    begins = f"{says} from {time_text(clock.began_at_ms)} on, if nobody intervenes."
    return Reaching(number, "next", clock.began_at_ms, begins)


def _title(found: RolloutState, number: int) -> str:
    percent = found.plan[number].reach / 100
    return f"Phase {number + 1} of {len(found.plan)} ({percent:g} %) of rollout {found.id}"


def _waits(found: RolloutState, clock: PlanClock) -> str:
    """Returns in a sentence what the phase that the plan is in by then waits for, but for time."""
    phase, name = found.plan[clock.phase], f"Phase {clock.phase + 1}"
    if phase.installed_percent is not None and not clock.is_met:
        outcomes = f"{phase.min_reports} outcomes with {phase.installed_percent} % installs"
        return f"{name} waits for {outcomes}"
    if phase.after_s is None:
        return f"{name} ends when a person advances the rollout"
    return "The project is halted"

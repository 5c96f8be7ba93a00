"""Decides which commands a rollout takes, and what it orders itself: to pause, or that a phase's
condition is met. `rollout` folds the events that these decisions return.
"""

from msgspec.structs import replace

from firmtrail.events.steering import (
    RolloutAborted,
    RolloutAdvanced,
    RolloutApproved,
    RolloutPaused,
    RolloutPhaseMet,
    RolloutPlanChanged,
    RolloutRejected,
    RolloutResumed,
)
from firmtrail.rules import plan
from firmtrail.rules.device import Refused
from firmtrail.rules.plan import ROLLOUT_PHASES_MAX, PlanClock
from firmtrail.rules.rollout import (
    PlanTime,
    Recent,
    RolloutState,
    begun_phases,
    clock_at,
    has_offered,
    reach_at,
)


def decide_advance(rollout: RolloutState, reach: int | None, at: PlanTime) -> RolloutAdvanced:
    """Returns the event; without a `reach`, the next phase of the plan begins. Raises `Refused` if
    the rollout would not reach more devices, or if its plan has no later phase of that reach."""
    _check_is_not_aborted(rollout)
    if not rollout.is_approved:
        raise Refused("rollout_waiting", "The rollout waits for approval. Approve it first.")
    now = reach_at(rollout, at)
    clock = clock_at(rollout, at)
    if clock is not None:
        return _next_phase(rollout, clock, reach)
    if reach is None or reach <= now:
        raise Refused(
            "no_advance",
            f"The rollout already reaches {now / 100:g} %. Give a higher percentage: a rollout "
            "only grows.",
        )
    return RolloutAdvanced(reach)


def _next_phase(rollout: RolloutState, clock: PlanClock, reach: int | None) -> RolloutAdvanced:
    later = list(enumerate(rollout.plan))[clock.phase + 1 :]
    found = next((n for n, phase in later if reach in {None, phase.reach}), None)
    if found is None:
        percents = ", ".join(f"{phase.reach / 100:g}" for _, phase in later)
        raise Refused(
            "no_advance",
            f"The plan has no such later phase. Percentages of its later phases: {percents}."
            if later
            else "The plan is in its last phase.",
        )
    return RolloutAdvanced(rollout.plan[found].reach, phase=found)


def decide_plan_change(
    rollout: RolloutState, wanted: RolloutPlanChanged, at: PlanTime
) -> RolloutPlanChanged:
    """Returns the event. Raises `Refused` for a rollback and for a rollout that has ended, and if
    the new phases would reach fewer devices than the rollout reaches already."""
    if rollout.is_rollback:
        raise Refused("rollback_without_plan", "A recall has no plan. Advance it instead.")
    _check_is_not_aborted(rollout)
    now = reach_at(rollout, at) if has_offered(rollout, at.now_ms) else 0
    if wanted.plan[0].reach < now:
        raise Refused(
            "no_advance",
            f"The rollout already reaches {now / 100:g} %. Let the first phase of the new plan "
            "reach as many devices or more: a rollout only grows.",
        )
    _check_length(rollout, wanted, at)
    return wanted


def _check_length(rollout: RolloutState, wanted: RolloutPlanChanged, at: PlanTime) -> None:
    now = replace(rollout, clock=clock_at(rollout, at))
    if begun_phases(now, at.now_ms) + len(wanted.plan) > ROLLOUT_PHASES_MAX:
        detail = f"A rollout has at most {ROLLOUT_PHASES_MAX} phases in all. Start another one."
        raise Refused("too_many_phases", detail)


def decide_approve(rollout: RolloutState, person: str) -> RolloutApproved:
    """Returns the approval by this person. Raises `Refused` if the rollout does not wait for one,
    or if they started it or have approved it already."""
    _check_waits(rollout)
    if person in {rollout.started_by, rollout.changed_by}:
        detail = "Another member has to approve the rollout that you started or changed."
        raise Refused("own_rollout", detail)
    if person in rollout.approved_by:
        raise Refused("approved_already", "You have approved this rollout already.")
    return RolloutApproved(by=person)


def decide_reject(rollout: RolloutState, person: str) -> RolloutRejected:
    """Returns the rejection by this person. Raises `Refused` if the rollout does not wait for
    approval."""
    _check_waits(rollout)
    return RolloutRejected(by=person)


def _check_waits(rollout: RolloutState) -> None:
    _check_is_not_aborted(rollout)
    if rollout.is_approved:
        raise Refused("not_waiting", "The rollout does not wait for approval.")


def decide_pause(rollout: RolloutState) -> RolloutPaused:
    _check_is_not_aborted(rollout)
    if rollout.phase == "paused":
        raise Refused("rollout_paused", "The rollout is already paused.")
    return RolloutPaused()


def decide_resume(rollout: RolloutState) -> RolloutResumed:
    _check_is_not_aborted(rollout)
    if rollout.phase == "running":
        raise Refused("rollout_running", "The rollout is not paused.")
    return RolloutResumed()


def decide_abort(rollout: RolloutState) -> RolloutAborted:
    _check_is_not_aborted(rollout)
    return RolloutAborted()


def _check_is_not_aborted(rollout: RolloutState) -> None:
    if rollout.phase == "aborted":
        raise Refused("rollout_aborted", "The rollout was aborted. Start another one.")


def decide_own_pause(rollout: RolloutState, recent: Recent) -> RolloutPaused | None:
    """Returns the pause of a rollout of which too many devices failed; None if it continues."""
    if not rollout.watches or rollout.failed_percent is None or rollout.min_reports is None:
        return None
    outcomes = recent.installed + recent.failed
    if outcomes < rollout.min_reports:
        return None
    if 100 * recent.failed <= rollout.failed_percent * outcomes:
        return None
    return RolloutPaused(failed=recent.failed, installed=recent.installed)


def decide_phase_met(rollout: RolloutState, recent: Recent, at: PlanTime) -> RolloutPhaseMet | None:
    """Returns that the condition of the present phase is met; None if it is not, or was before."""
    clock = clock_at(rollout, at)
    if clock is None or clock.is_met or rollout.phase == "aborted" or recent.phase != clock.phase:
        return None
    if not rollout.is_approved:
        return None
    if not plan.is_met(rollout.plan[clock.phase], recent.phase_installed, recent.phase_failed):
        return None
    return RolloutPhaseMet(clock.phase, recent.phase_installed, recent.phase_failed)

"""Decides on a change of a rollout's plan."""

from msgspec.structs import replace

from firmtrail.events.steering import RolloutPlanChanged
from firmtrail.rules import rollout
from firmtrail.rules.device import Refused
from firmtrail.rules.rollout import PlanTime, RolloutState

PHASES_MAX = 100
"""Limits the phases of a rollout in all: those that it began, and those that follow."""


def decide_plan_change(
    found: RolloutState, wanted: RolloutPlanChanged, at: PlanTime
) -> RolloutPlanChanged:
    """Returns the event. Raises `Refused` for a rollback and for a rollout that has ended, and if
    the new phases would reach fewer devices than the rollout reaches already."""
    if found.is_rollback:
        raise Refused("rollback_without_plan", "A rollback has no plan. Advance it instead.")
    if found.phase == "aborted":
        raise Refused("rollout_aborted", "The rollout was aborted. Start another one.")
    now = rollout.reach_at(found, at) if rollout.has_offered(found, at.now_ms) else 0
    if wanted.plan[0].reach < now:
        raise Refused(
            "no_advance",
            f"The rollout already reaches {now / 100:g} %. Let the first phase of the new plan "
            "reach as many devices or more: a rollout only grows.",
        )
    _check_length(found, wanted, at)
    return wanted


def _check_length(found: RolloutState, wanted: RolloutPlanChanged, at: PlanTime) -> None:
    now = replace(found, clock=rollout.clock_at(found, at))
    if rollout.begun_phases(now, at.now_ms) + len(wanted.plan) > PHASES_MAX:
        detail = f"A rollout has at most {PHASES_MAX} phases in all. Start another one."
        raise Refused("too_many_phases", detail)

"""How far is a rollout with a device? Each device that it is meant for is in exactly one state."""

from typing import Literal, NamedTuple

from firmtrail.rules import offer, rollout, target
from firmtrail.rules.offer import Offer
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.target import Reason, Situation
from firmtrail.rules.version import is_higher

type ProgressState = Literal[
    "installed", "exhausted", "failed", "already", "not_reached", "held", "offered", "pending"
]


type ProgressReason = Reason | Literal["silent"]


class DeviceProgress(NamedTuple):
    state: ProgressState
    reason: ProgressReason


def progress(case: Situation, of: RolloutState) -> DeviceProgress:
    """Returns the first state that applies; the reason is that of the device's decision, or
    "silent" where the device failed by its silence."""
    decision = target.decide(case)
    made = offer.latest(each for each in case.offers if each.source == of.id)
    state = _state(case, of, decision, made)
    is_silent = state == "failed" and made is not None and made.is_silent
    return DeviceProgress(state, "silent" if is_silent else decision.reason)


def _state(
    case: Situation, of: RolloutState, decision: target.Decision, made: Offer | None
) -> ProgressState:
    outcome = made.outcome if made else None
    states: tuple[tuple[ProgressState, bool], ...] = (
        ("installed", outcome == "installed"),
        ("exhausted", made is not None and _is_exhausted(case, made.version)),
        ("failed", outcome == "failed"),
        ("already", made is None and _is_there(case, of)),
        ("not_reached", not rollout.reaches(of, case.device.device)),
        ("held", decision.rollout != of.id or decision.version is None),
        ("offered", made is not None),
    )
    return next((state for state, applies in states if applies), "pending")


def _is_exhausted(case: Situation, version: str) -> bool:
    return offer.attempts(case.offers, version) >= case.control.settings.max_attempts


def _is_there(case: Situation, of: RolloutState) -> bool:
    """Returns whether it runs the version, or a higher one, without this rollout's doing."""
    runs = case.version
    if of.is_rollback or runs is None or of.version is None:
        return False
    return not is_higher(of.version, runs)

"""Computes how far a rollout is with a device: each device that it is meant for has one state."""

from typing import Literal, NamedTuple

from firmtrail.rules import offer, rollout, target
from firmtrail.rules.offer import Offer
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.situation import Decision, Reason, Situation
from firmtrail.rules.version import is_higher

type ProgressState = Literal[
    "installed", "exhausted", "failed", "already", "not_reached", "held", "offered", "pending"
]


type ProgressReason = Reason | Literal["silent"]


class DeviceProgress(NamedTuple):
    """Holds the state of a device in a rollout, and the reason."""

    state: ProgressState
    reason: ProgressReason


def progress(situation: Situation, of: RolloutState) -> DeviceProgress:
    """Returns the first state that applies; the reason is that of the device's decision, or
    "silent" where the device failed by its silence."""
    decision = target.decide(situation)
    made = offer.latest(each for each in situation.offers if each.source == of.id)
    state = _state(situation, of, decision, made)
    is_silent = state == "failed" and made is not None and made.is_silent
    return DeviceProgress(state, "silent" if is_silent else decision.reason)


def _state(
    situation: Situation, of: RolloutState, decision: Decision, made: Offer | None
) -> ProgressState:
    outcome, tries_max = made.outcome if made else None, situation.control.settings.max_attempts
    attempts = offer.attempts(situation.offers, made.version) if made else 0
    states: tuple[tuple[ProgressState, bool], ...] = (
        ("installed", outcome == "installed"),
        ("exhausted", made is not None and attempts >= tries_max),
        ("failed", outcome == "failed"),
        ("already", made is None and _is_there(situation, of)),
        ("not_reached", not rollout.reaches(of, situation.device.device, situation.at)),
        ("held", decision.rollout != of.id or decision.version is None),
        ("offered", made is not None and made.ending != "cancelled"),
    )
    return next((state for state, applies in states if applies), "pending")


def _is_there(situation: Situation, of: RolloutState) -> bool:
    """Returns whether the device runs the version, or a higher one, but not by this rollout."""
    runs = situation.version
    if of.is_rollback or runs is None or of.version is None:
        return False
    return not is_higher(of.version, runs)

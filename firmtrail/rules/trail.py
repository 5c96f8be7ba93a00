"""Explains a decision by its trail: the facts that each rule looked at, and its finding.

The findings are those that `target.decide` decides by. A check-in needs no trail, so it is computed
only for a person who asks.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from firmtrail.rules import rollout, target
from firmtrail.rules.situation import RuleName, Situation
from firmtrail.rules.standing import Standing
from firmtrail.rules.target import RuleVerdict

type Inputs = dict[str, str | int | bool | None]
"""The facts that a rule looked at, by name."""


class TrailStep(Struct, frozen=True, gc=False):
    """Holds the facts that one rule looked at, and its finding."""

    rule: RuleName
    decides: bool
    says: str
    inputs: Inputs


def trail(situation: Situation) -> list[TrailStep]:
    """Returns a step for each rule up to the one that decides."""
    steps: list[TrailStep] = []
    for rule, apply in target.rules_of(situation):
        found, inputs = apply(situation), _INPUTS[rule](situation)
        if not isinstance(found, str):
            says = _says(situation, rule, target.checked(situation, found))
            return [*steps, TrailStep(rule, decides=True, says=says, inputs=inputs)]
        steps.append(TrailStep(rule, decides=False, says=found, inputs=inputs))
    raise AssertionError("the last rule always decides")


def _says(situation: Situation, rule: RuleName, verdict: RuleVerdict) -> str:
    keeps = verdict.reason == "withdrawn" or (rule, verdict.reason) == ("rollout", "up_to_date")
    return f"{verdict.says}{_passed_over(situation, rule, verdict) if keeps else ''}"


def _passed_over(situation: Situation, rule: RuleName, verdict: RuleVerdict) -> str:
    """Returns why a device that keeps its version is not sent to the higher version of another
    rollout; "" if there is no such rollout."""
    better = (
        each
        for each in target.meant(situation)
        if each.rollout.id != verdict.rollout
        if not each.is_over and target.is_news(situation, each.rollout)
    )
    standing = next(better, None)
    if standing is None:
        return ""
    found = standing.rollout
    name = f"rollout {found.id} of {found.version}"
    if rule != "rollout" or verdict.rollout is None:
        decider = "the pin" if rule == "pin" else f"recall {verdict.rollout}"
        return f"; {decider} comes before {name}"
    if not standing.reaches(situation.device.device):
        return f"; {name} does not reach it yet"
    if found.position < situation.control.rollouts[verdict.rollout].position:
        return f"; until it is aborted, rollout {verdict.rollout} comes before the older {name}"
    return f"; {name} is newer, and has not begun"


def _device(situation: Situation) -> Inputs:
    return {"model": situation.device.model, "version": situation.version}


def _order(situation: Situation, found: Standing | None) -> Inputs:
    """Returns what a rule knows of the rollout that decides, if one does."""
    if found is None:
        return {}
    inputs: Inputs = {
        "rollout": found.rollout.id,
        "phase": found.state,
        "bucket": rollout.bucket(found.rollout.id, situation.device.device),
        "reach": found.reach,
    }
    return inputs if found.phase is None else inputs | {"plan_phase": found.phase}


def _rollback(situation: Situation) -> Inputs:
    return {"version": situation.version} | _order(situation, target.rollback_of(situation))


def _rollout(situation: Situation) -> Inputs:
    return _device(situation) | _order(situation, target.rollout_of(situation))


def _follow_latest(situation: Situation) -> Inputs:
    control = situation.control
    found = control.followed.get(situation.device.model or "")
    latest = found.version if found else None
    return {"follow_latest": control.settings.follow_latest, "latest": latest}


def _nothing(situation: Situation) -> Inputs:
    latest = situation.control.latest.get(situation.device.model or "")
    return _device(situation) | {"latest": latest.version if latest else None}


_INPUTS: Mapping[RuleName, Callable[[Situation], Inputs]] = {
    "enrolment": lambda situation: {"pending": situation.device.pending},
    "halt": lambda situation: {"halt": situation.control.halt},
    "pin": lambda situation: {"pinned": situation.device.pinned, "version": situation.version},
    "rollback": _rollback,
    "rollout": _rollout,
    "follow_latest": _follow_latest,
    "nothing": _nothing,
}

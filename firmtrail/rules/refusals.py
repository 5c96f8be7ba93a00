"""Refuses versions that a device must not be sent to, whichever rule names them."""

from firmtrail.rules import artifact, offer
from firmtrail.rules.artifact import NATIVE
from firmtrail.rules.control import is_withdrawn
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.situation import Reason, Refusal, Situation
from firmtrail.rules.version import is_higher

type RefusedTarget = tuple[Refusal, str] | None


def withdrawn(situation: Situation, target: str, _cause: Reason) -> RefusedTarget:
    model = situation.device.model
    if model is not None and is_withdrawn(situation.control, model, target):
        return "withdrawn", f"{target} is withdrawn"
    return None


def _reached(situation: Situation, target: str, cause: Reason) -> RefusedTarget:
    """Refuses the target if the device runs it already, or a higher version. Only a pin or a
    rollback may lower the version, or act on an unknown one."""
    if target == situation.version:
        return "up_to_date", f"it runs {target}"
    if cause in {"pinned", "rollback"}:
        return None
    if situation.version is None:
        return "unknown_version", "it has not yet reported what it runs"
    if is_higher(target, situation.version):
        return None
    return "up_to_date", f"it runs {situation.version}, which is not lower than {target}"


def _unreleased(situation: Situation, target: str, _cause: Reason) -> RefusedTarget:
    """Refuses a target that is a release of other models only, or of none."""
    model, releases = situation.device.model, situation.control.releases
    if model is not None and ReleaseKey(model, target) in releases:
        return None
    if any(key.version == target for key in releases):
        return "wrong_model", f"{target} is not a release of its model, {model}"
    return "no_release", f"there is no release {target}"


def exhausted(situation: Situation, target: str, _cause: Reason) -> RefusedTarget:
    tried, tries_max = (
        offer.attempts(situation.offers, target),
        situation.control.settings.max_attempts,
    )
    if tried < tries_max:
        return None
    return "attempts_exhausted", f"{tried} of {tries_max} attempts at {target} failed"


def _without_artifact(situation: Situation, target: str, _cause: Reason) -> RefusedTarget:
    """Refuses a target of which no single artifact is meant for the device's protocol."""
    protocol, control = situation.protocol, situation.control
    if protocol == NATIVE:
        return None
    found = control.releases[ReleaseKey(situation.device.model or "", target)]
    if artifact.artifact_for(protocol, found, control.settings) is not None:
        return None
    count = len(found.artifacts)
    return "no_artifact", f"none of the {count} artifacts of {target} is meant for {protocol}"


def refused(situation: Situation, target: str, cause: Reason) -> RefusedTarget:
    """Returns the first reason why the device must not be sent to the target; None if it may."""
    for check in (withdrawn, _reached, _unreleased, exhausted, _without_artifact):
        if found := check(situation, target, cause):
            return found
    return None

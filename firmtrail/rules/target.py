"""What should this device run, and why? One function decides and explains.

The rules are gone through in their order, and the first that applies decides alone: where its
target is refused, the answer is "none" with that reason, never the next rule's. What each rule saw
and said is the decision's trail.
"""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from firmtrail.events.steering import Cause
from firmtrail.rules import offer, rollout
from firmtrail.rules.control import Control, is_withdrawn
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offers
from firmtrail.rules.release import ReleaseKey
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.version import is_higher

type Action = Literal["none", "update", "rollback"]
type Refusal = Literal[
    "up_to_date",
    "not_reached",
    "paused",
    "halted",
    "withdrawn",
    "attempts_exhausted",
    "wrong_model",
    "no_previous",
    "no_release",
    "unknown_version",
]
type Reason = Cause | Refusal
type RuleName = Literal["halt", "pin", "rollback", "rollout", "follow_latest", "nothing"]


class TrailStep(Struct, frozen=True, gc=False):
    """What one rule saw, and what it said."""

    rule: RuleName
    decides: bool
    says: str
    inputs: dict[str, str | int | bool | None]


class Decision(Struct, frozen=True, gc=False):
    """What a device should do."""

    action: Action
    version: str | None
    rollout: str | None
    """The rollout or rollback that decided, also where it decided "none"."""
    reason: Reason
    rule: RuleName
    target: str | None
    """The version that the rule that decided is about."""
    trail: tuple[TrailStep, ...]

    @property
    def source(self) -> str:
        """Of the offer that it means."""
        return self.rollout or self.reason


class Situation(Struct, frozen=True, gc=False):
    """A device, as one decides on it."""

    control: Control
    device: DeviceState
    of_all_models: Offers
    """Every offer of the device, those from when it was of another model too."""
    previous: str | None = None
    """Its way back, where `way_wanted` says that a rollback asks for it."""

    @property
    def offers(self) -> Offers:
        """Those that count: the same version of another model is another release."""
        return offer.of_model(self.of_all_models, self.device.model)

    @property
    def version(self) -> str | None:
        return self.device.version


class _Word(Struct, frozen=True, gc=False):
    """What a rule that applies says: a reason for nothing, or a cause with its target."""

    reason: Reason
    says: str
    target: str | None = None
    rollout: str | None = None


type _Said = tuple[_Word | None, str, dict[str, str | int | bool | None]]
"""A word, or None and why the rule does not apply; and what it looked at."""

CAUSES: frozenset[Reason] = frozenset({"pinned", "rollback", "rollout", "follow_latest"})


def situation_of(
    control: Control, device: DeviceState, offers: Offers, running: str | None = None
) -> Situation:
    """The case of a device that may have said what it runs, which counts before what is known."""
    if running is not None and running != device.version:
        device = replace(device, version=running)
    return Situation(control, device, offers)


def cause_of(decision: Decision) -> Cause:
    """Of a decision that sends the device somewhere."""
    assert decision.version is not None
    match decision.reason:
        case "pinned" | "rollback" | "rollout" | "follow_latest" as cause:
            return cause
    raise AssertionError(f"{decision.reason} sends nobody anywhere")


def decide(case: Situation) -> Decision:
    """Returns what the device should run, by the first rule that applies."""
    trail: list[TrailStep] = []
    for rule, look in _RULES:
        word, says, inputs = look(case)
        if word is None:
            trail.append(TrailStep(rule, False, says, inputs))  # noqa: FBT003
            continue
        word = _checked(case, word)
        trail.append(TrailStep(rule, True, word.says, inputs))  # noqa: FBT003
        return _decision(case, rule, word, trail)
    raise AssertionError("the last rule always decides")


def _decision(case: Situation, rule: RuleName, word: _Word, trail: list[TrailStep]) -> Decision:
    action: Action = "none"
    if word.reason in CAUSES:
        is_lower = (
            case.version is not None
            and word.target is not None
            and is_higher(case.version, word.target)
        )
        action = "rollback" if word.reason == "rollback" or is_lower else "update"
    version = None if action == "none" else word.target
    return Decision(action, version, word.rollout, word.reason, rule, word.target, tuple(trail))


def _checked(case: Situation, word: _Word) -> _Word:
    """Returns the word, or the refusal of its target."""
    if word.reason not in CAUSES or word.target is None:
        return word
    for check in (_withdrawn, _reached, _unreleased, _exhausted):
        refused = check(case, word.target, word.reason)
        if refused is not None:
            return replace(word, reason=refused[0], says=refused[1])
    return word


type _Refused = tuple[Refusal, str] | None


def _withdrawn(case: Situation, target: str, _cause: Reason) -> _Refused:
    model = case.device.model
    if model is not None and is_withdrawn(case.control, model, target):
        return "withdrawn", f"{target} is withdrawn"
    return None


def _reached(case: Situation, target: str, cause: Reason) -> _Refused:
    """It is there already; only a pin or a rollback sends it lower, or from it knows not where."""
    if target == case.version:
        return "up_to_date", f"it runs {target}"
    if cause in {"pinned", "rollback"}:
        return None
    if case.version is None:
        return "unknown_version", "it has not said yet what it runs"
    if is_higher(target, case.version):
        return None
    return "up_to_date", f"it runs {case.version}, which is not lower than {target}"


def _unreleased(case: Situation, target: str, _cause: Reason) -> _Refused:
    """The target is a release of other models, or none at all."""
    model, releases = case.device.model, case.control.releases
    if model is not None and ReleaseKey(model, target) in releases:
        return None
    if any(key.version == target for key in releases):
        return "wrong_model", f"{target} is no release of its model, {model}"
    return "no_release", f"there is no release {target}"


def _exhausted(case: Situation, target: str, _cause: Reason) -> _Refused:
    tried, tries_max = offer.attempts(case.offers, target), case.control.settings.max_attempts
    if tried < tries_max:
        return None
    return "attempts_exhausted", f"{tried} of {tries_max} attempts at {target} failed"


def _halt(case: Situation) -> _Said:
    halt = case.control.halt
    inputs: dict[str, str | int | bool | None] = {"halt": halt}
    if halt is None:
        return None, "the project is not halted", inputs
    if halt == "rollouts" and _outranks_pin(case, _rollback_of(case)):
        return None, "the halt leaves rollbacks alone", inputs
    return _Word("halted", "the project is halted"), "", inputs


def _pin(case: Situation) -> _Said:
    pinned = case.device.pinned
    inputs: dict[str, str | int | bool | None] = {"pinned": pinned, "version": case.version}
    if pinned is None:
        return None, "it is not pinned", inputs
    rollback = _rollback_of(case)
    if rollback is not None and _outranks_pin(case, rollback):
        return None, f"a rollback outranks the pin on {pinned}", inputs
    return _Word("pinned", f"it is pinned to {pinned}", pinned), "", inputs


def _rollback_of(case: Situation) -> RolloutState | None:
    """Returns the newest rollback that names its current version and reaches it."""
    device = case.device
    if device.model is None or device.version is None:
        return None
    for each in case.control.deciding.get((device.model, device.version), ()):
        if rollout.is_meant(each, device) and rollout.reaches(each, device.device):
            return each
    return None


def _outranks_pin(case: Situation, rollback: RolloutState | None) -> bool:
    """A rollback outranks a pin on the version that it names, and no other pin."""
    return rollback is not None and case.device.pinned in {None, rollback.bad_version}


def _rollback(case: Situation) -> _Said:
    found = _rollback_of(case)
    inputs: dict[str, str | int | bool | None] = {"version": case.version}
    if found is None:
        return None, "no rollback names its version and reaches it", inputs
    inputs |= _inputs(found, case.device)
    if found.phase == "paused":
        return _Word("paused", f"rollback {found.id} is paused", rollout=found.id), "", inputs
    target = _way_back(case, found)
    if target is None:
        return _Word("no_previous", _nowhere(case, found), rollout=found.id), "", inputs
    says = f"rollback {found.id} sends it from {found.bad_version} to {target}"
    return _Word("rollback", says, target, found.id), "", inputs


def _way_back(case: Situation, found: RolloutState) -> str | None:
    """Returns where a rollback sends the device. Its previous version is fixed at the first offer,
    and chosen again where that one is withdrawn or its attempts are exhausted."""
    if found.version is not None:
        return found.version
    fixed = _fixed(case.offers, found)
    if fixed is not None and _lost(case, fixed) is None:
        return fixed
    if case.previous is not None and _lost(case, case.previous) is None:
        return case.previous
    if found.fallback is not None and _lost(case, found.fallback) is None:
        return found.fallback
    return None


def _nowhere(case: Situation, found: RolloutState) -> str:
    """Why a rollback has no way back for the device."""
    says = f"there is no earlier good version to go back to from {found.bad_version}"
    ways = [_fixed(case.offers, found), found.fallback]
    lost = [why for way in dict.fromkeys(ways) if way and (why := _lost(case, way))]
    return ", and ".join([*lost, says])


def _lost(case: Situation, way: str) -> str | None:
    """Why a version is no way back: what a check of it as a target says."""
    refused = _withdrawn(case, way, "rollback") or _exhausted(case, way, "rollback")
    return refused[1] if refused else None


def _fixed(offers: Offers, found: RolloutState) -> str | None:
    made = offer.latest(each for each in offers if each.source == found.id)
    return made.version if made else None


def runs_wanted(case: Situation) -> tuple[str, str] | None:
    """Returns the device and its bad version, where a rollback asks what it ran before."""
    found = _rollback_of(case)
    if found is None or found.version is not None:
        return None
    fixed = _fixed(case.offers, found)
    if fixed is not None and _lost(case, fixed) is None:
        return None
    assert found.bad_version is not None, "a rollback has a bad version"
    return case.device.device, found.bad_version


def _rollout(case: Situation) -> _Said:
    device = case.device
    inputs: dict[str, str | int | bool | None] = {"model": device.model, "version": device.version}
    for each in case.control.deciding.get((device.model or "", None), ()):
        if rollout.is_meant(each, device) and rollout.reaches(each, device.device):
            inputs |= _inputs(each, device)
            return _word_of(case, each), "", inputs
    return None, "no rollout reaches it", inputs


def _word_of(case: Situation, found: RolloutState) -> _Word:
    assert found.version is not None, "a rollout has a version"
    if is_withdrawn(case.control, found.model, found.version):
        return _Word("withdrawn", f"{found.version} is withdrawn", found.version, found.id)
    if found.phase == "paused":
        return _Word("paused", f"rollout {found.id} is paused", found.version, found.id)
    says = f"rollout {found.id} sends it to {found.version}"
    return _Word("rollout", says, found.version, found.id)


def _inputs(found: RolloutState, device: DeviceState) -> dict[str, str | int | bool | None]:
    return {
        "rollout": found.id,
        "phase": found.phase,
        "bucket": rollout.bucket(found.id, device.device),
        "reach": found.reach,
    }


def _follow_latest(case: Situation) -> _Said:
    follows = case.control.settings.follow_latest
    found = case.control.followed.get(case.device.model or "")
    latest = found.version if found else None
    inputs: dict[str, str | int | bool | None] = {"follow_latest": follows, "latest": latest}
    if not follows:
        return None, "the project does not follow the latest release", inputs
    if latest is None:
        return None, "its model has no release that no rollout carries", inputs
    return _Word("follow_latest", f"the project follows the latest, {latest}", latest), "", inputs


def _nothing(case: Situation) -> _Said:
    device, control = case.device, case.control
    latest = control.latest.get(device.model or "")
    inputs: dict[str, str | int | bool | None] = {
        "model": device.model,
        "version": device.version,
        "latest": latest.version if latest else None,
    }
    if device.model not in control.models:
        return _Word("no_release", "its model has no release"), "", inputs
    if device.version is None:
        return _Word("unknown_version", "it has not said yet what it runs"), "", inputs
    if _is_left_out(case) or (latest and is_higher(latest.version, device.version)):
        return _Word("not_reached", "a higher release does not reach it yet"), "", inputs
    return _Word("up_to_date", "no higher release is meant for it"), "", inputs


def _is_left_out(case: Situation) -> bool:
    """Returns whether a rollout of a higher version is meant for it, and its bucket not reached."""
    device = case.device
    return any(
        each.version is not None
        and device.version is not None
        and rollout.is_meant(each, device)
        and is_higher(each.version, device.version)
        for each in case.control.deciding.get((device.model or "", None), ())
    )


_RULES: tuple[tuple[RuleName, Callable[[Situation], _Said]], ...] = (
    ("halt", _halt),
    ("pin", _pin),
    ("rollback", _rollback),
    ("rollout", _rollout),
    ("follow_latest", _follow_latest),
    ("nothing", _nothing),
)

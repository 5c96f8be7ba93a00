"""Decides what a device should run, and says why.

The rules are tried in their order, and the first that applies decides alone: if its target is
refused, the answer is "none" with that reason, and never the answer of the next rule. `trail` shows
the findings of all rules to people.
"""

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from firmtrail.events.steering import Cause, Window
from firmtrail.events.times import time_text
from firmtrail.rules import offer, refusals, settings, window
from firmtrail.rules.offer import Offers
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.situation import (
    CAUSES,
    Action,
    Decision,
    Reason,
    RuleName,
    Situation,
)
from firmtrail.rules.standing import Standing
from firmtrail.rules.version import is_higher


class RuleVerdict(Struct, frozen=True, gc=False):
    """Holds the result of a rule that applies: a reason for no update, or a cause with its
    target."""

    reason: Reason
    says: str
    target: str | None = None
    rollout: str | None = None
    not_before_ms: int | None = None


type RuleFinding = RuleVerdict | str
"""The verdict of a rule, or why the rule does not apply."""


def cause_of(decision: Decision) -> Cause:
    """Returns the cause of a decision that sends the device to a version."""
    assert decision.version is not None
    match decision.reason:
        case "pinned" | "rollback" | "rollout" | "follow_latest" as cause:
            return cause
    raise AssertionError(f"{decision.reason} sends the device to no version")


def decide(situation: Situation) -> Decision:
    """Returns what the device should run, by the first rule that applies."""
    for rule, apply in rules_of(situation):
        found = apply(situation)
        if not isinstance(found, str):
            return _decision(situation, rule, checked(situation, found))
    raise AssertionError("the last rule always decides")


def _decision(situation: Situation, rule: RuleName, verdict: RuleVerdict) -> Decision:
    action: Action = "none"
    if verdict.reason in CAUSES:
        is_lower = (
            situation.version is not None
            and verdict.target is not None
            and is_higher(situation.version, verdict.target)
        )
        action = "rollback" if verdict.reason == "rollback" or is_lower else "update"
    version = None if action == "none" else verdict.target
    return Decision(
        action,
        version,
        verdict.rollout,
        verdict.reason,
        rule,
        verdict.target,
        verdict.not_before_ms,
    )


def checked(situation: Situation, verdict: RuleVerdict) -> RuleVerdict:
    """Returns the verdict, or the refusal of its target."""
    if verdict.reason not in CAUSES or verdict.target is None:
        return verdict
    refused = refusals.refused(situation, verdict.target, verdict.reason)
    if refused is None:
        return verdict
    return replace(verdict, reason=refused[0], says=refused[1])


def is_news(situation: Situation, found: RolloutState) -> bool:
    """Returns whether a rollout leads to a higher version than the device's own."""
    assert found.version is not None, "a rollout has a version"
    return situation.version is not None and is_higher(found.version, situation.version)


def meant(situation: Situation, bad_version: str | None = None) -> Iterable[Standing]:
    """Returns the rollouts that are meant for the device, the newest first: the rollbacks from a
    bad version, or all others."""
    return situation.control.standings.meant_for(situation.device, situation.now_ms, bad_version)


def _enrolment(_situation: Situation) -> RuleFinding:
    return RuleVerdict("pending", "it waits to be accepted")


def _halt(situation: Situation) -> RuleFinding:
    halt = situation.control.halt
    if halt is None:
        return "the project is not halted"
    if halt == "rollouts" and _outranks_pin(situation, rollback_of(situation)):
        return "the halt does not stop recalls"
    return RuleVerdict("halted", "the project is halted")


def _pin(situation: Situation) -> RuleFinding:
    pinned = situation.device.pinned
    if pinned is None:
        return "it is not pinned"
    if _outranks_pin(situation, rollback_of(situation)):
        return f"a recall outranks the pin on {pinned}"
    return RuleVerdict("pinned", f"it is pinned to {pinned}", pinned)


def rollback_of(situation: Situation) -> Standing | None:
    """Returns the newest rollback that names its current version and reaches it."""
    device = situation.device
    if device.version is None:
        return None
    for each in meant(situation, device.version):
        if each.reaches(device.device):
            return each
    return None


def _outranks_pin(situation: Situation, rollback: Standing | None) -> bool:
    """Returns whether the rollback outranks the pin: only a pin on its bad version, or none."""
    return rollback is not None and situation.device.pinned in {None, rollback.rollout.bad_version}


def _rollback(situation: Situation) -> RuleFinding:
    standing = rollback_of(situation)
    if standing is None:
        return "no recall names its version and reaches it"
    found = standing.rollout
    if found.phase == "paused":
        return RuleVerdict("paused", f"recall {found.id} is paused", rollout=found.id)
    target = _way_back(situation, found)
    if target is None:
        return RuleVerdict("no_previous", _no_way_back(situation, found), rollout=found.id)
    says = f"recall {found.id} sends it from {found.bad_version} to {target}"
    verdict = RuleVerdict("rollback", says, target, found.id)
    return _outside_window(situation, found, target) or verdict


def _way_back(situation: Situation, found: RolloutState) -> str | None:
    """Returns the version that a rollback sends the device to. The previous version is chosen at
    the first offer, and again if that one is withdrawn or its attempts are exhausted."""
    if found.version is not None:
        return found.version
    chosen = _chosen(situation.offers, found)
    if chosen is not None and _unusable(situation, chosen) is None:
        return chosen
    if situation.previous is not None and _unusable(situation, situation.previous) is None:
        return situation.previous
    is_usable = found.fallback is not None and _unusable(situation, found.fallback) is None
    return found.fallback if is_usable else None


def _no_way_back(situation: Situation, found: RolloutState) -> str:
    """Returns why a rollback has no way back for the device."""
    says = f"there is no earlier good version to go back to from {found.bad_version}"
    ways = [_chosen(situation.offers, found), found.fallback]
    refused = [why for way in dict.fromkeys(ways) if way and (why := _unusable(situation, way))]
    return ", and ".join([*refused, says])


def _unusable(situation: Situation, way: str) -> str | None:
    """Returns why a check refuses a version as a way back; None if it can be one."""
    refused = refusals.withdrawn(situation, way, "rollback") or refusals.exhausted(
        situation, way, "rollback"
    )
    return refused[1] if refused else None


def _chosen(offers: Offers, found: RolloutState) -> str | None:
    made = offer.latest(each for each in offers if each.source == found.id)
    return made.version if made else None


def runs_wanted(situation: Situation) -> tuple[str, str] | None:
    """Returns the device and its bad version, if a rollback needs to know what ran before."""
    standing = rollback_of(situation)
    if standing is None or standing.rollout.version is not None:
        return None
    found = standing.rollout
    chosen = _chosen(situation.offers, found)
    if chosen is not None and _unusable(situation, chosen) is None:
        return None
    assert found.bad_version is not None, "a rollback has a bad version"
    return situation.device.device, found.bad_version


def _rollout(situation: Situation) -> RuleFinding:
    found = rollout_of(situation)
    return "no rollout reaches it" if found is None else _verdict_of(situation, found)


def rollout_of(situation: Situation) -> Standing | None:
    """Returns the newest rollout that reaches the device and has begun; if none of those that reach
    it has, the newest of them."""
    newest = None
    for each in meant(situation):
        if each.reaches(situation.device.device):
            if each.has_begun:
                return each
            newest = newest or each
    return newest


def _verdict_of(situation: Situation, standing: Standing) -> RuleVerdict:
    found = standing.rollout
    assert found.version is not None, "a rollout has a version"
    if standing.is_over:
        return RuleVerdict("withdrawn", f"{found.version} is withdrawn", found.version, found.id)
    name, version = f"rollout {found.id}", found.version
    match standing.state:
        case "waiting":
            return RuleVerdict("waiting", f"{name} waits for approval", version, found.id)
        case "paused":
            return RuleVerdict("paused", f"{name} is paused", version, found.id)
        case "scheduled" if (start_ms := found.start_at_ms) is not None:
            says = f"{name} starts at {time_text(start_ms)}"
            return RuleVerdict("scheduled", says, version, found.id, start_ms)
    return _outside_window(situation, found, version) or RuleVerdict(
        "rollout", f"{name} sends it to {version}", version, found.id
    )


def _outside_window(situation: Situation, found: RolloutState, version: str) -> RuleVerdict | None:
    """Returns the verdict that the device waits for the window to open. Returns None if it is open,
    if an offer was made inside it, which stays valid, and if the version is refused anyway: the
    opening changes nothing for the device."""
    times = _window_of(situation, found)
    if times is None:
        return None
    zone = window.zone_of(times, situation.timezone)
    if window.is_open(times, zone, situation.now_ms):
        return None
    if offer.is_made(situation.offers, found.id, version):
        return None
    if refusals.refused(situation, version, "rollback" if found.is_rollback else "rollout"):
        return None
    opens_ms = window.next_opening(times, zone, situation.now_ms)
    when = f"opens at {time_text(opens_ms)}" if opens_ms else "never opens again"
    kind = "recall" if found.is_rollback else "rollout"
    says = f"the window of {kind} {found.id} {when}"
    return RuleVerdict("window", says, version, found.id, opens_ms)


def _window_of(situation: Situation, found: RolloutState) -> Window | None:
    """Returns the window that counts for the device; for a rollback, only one of its own."""
    device, own = situation.device, found.window_times
    if found.is_rollback:
        return own
    of_project = situation.control.settings
    return settings.window_of(of_project, own, device.model, device.cohort).times


def _follow_latest(situation: Situation) -> RuleFinding:
    control = situation.control
    if not control.settings.follow_latest:
        return "the project does not follow the latest release"
    latest = control.followed.get(situation.device.model or "")
    if latest is None:
        return "its model has no release that no rollout carries"
    says = f"the project follows the latest, {latest.version}"
    return RuleVerdict("follow_latest", says, latest.version)


def _nothing(situation: Situation) -> RuleFinding:
    device, control = situation.device, situation.control
    if device.model not in control.models:
        return RuleVerdict("no_release", "its model has no release")
    if device.version is None:
        return RuleVerdict("unknown_version", "it has not yet reported what it runs")
    latest = control.latest.get(device.model or "")
    if _is_left_out(situation) or (latest and is_higher(latest.version, device.version)):
        return RuleVerdict("not_reached", "a higher release does not reach it yet")
    return RuleVerdict("up_to_date", "no higher release is meant for it")


def _is_left_out(situation: Situation) -> bool:
    """Returns whether a rollout of a higher version is meant for it but has not reached its
    bucket."""
    return any(is_news(situation, each.rollout) for each in meant(situation))


type Rules = tuple[tuple[RuleName, Callable[[Situation], RuleFinding]], ...]

_RULES: Rules = (
    ("halt", _halt),
    ("pin", _pin),
    ("rollback", _rollback),
    ("rollout", _rollout),
    ("follow_latest", _follow_latest),
    ("nothing", _nothing),
)
_PENDING: Rules = (("enrolment", _enrolment),)


def rules_of(situation: Situation) -> Rules:
    """Returns the rules for the device, in their order."""
    return _PENDING if situation.device.pending else _RULES

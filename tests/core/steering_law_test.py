"""Tests the law of steering over any commands and reports: some offers are never made."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import (
    DeviceChanged,
    FirmwareInstalled,
    FirmwareRunning,
    SettingsChanged,
    Status,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.steering import AttemptsCleared, UpdateOffered
from firmtrail.rules import control, progress, rollout, rollout_decisions, target
from firmtrail.rules.device import Refused
from firmtrail.rules.rollout import RolloutState
from firmtrail.rules.version import is_higher
from tests.steering import Fleet

VERSIONS = ("1.0.0", "1.1.0", "1.2.0-rc.1", "1.2.0", "2.0.0")
DEVICES = ("d1", "d2", "d3")
STATUSES: tuple[Status, ...] = ("installed", "running", "failed", "rejected", "installing")

OFFERED = {"installed", "exhausted", "failed", "offered"}
EITHER = {"not_reached", "held"}
"""States of a device that may have been offered a version, or not."""

versions, devices = st.sampled_from(VERSIONS), st.sampled_from(DEVICES)
reaches = st.sampled_from((0, 3_000, 6_000, 10_000))
numbers = st.integers(0, 3)
wishes = st.one_of(
    st.tuples(st.just("check in"), devices),
    st.tuples(st.just("check in"), devices),
    st.tuples(st.just("report"), versions, st.sampled_from(STATUSES), devices),
    st.tuples(st.just("report"), versions, st.sampled_from(STATUSES), devices),
    st.tuples(st.just("roll out"), versions, reaches, st.sampled_from((None, 20))),
    st.tuples(st.just("roll back"), versions, st.one_of(st.none(), versions), reaches),
    st.tuples(st.just("withdraw"), versions),
    st.tuples(st.sampled_from(("pause", "resume", "abort")), numbers),
    st.tuples(st.just("advance"), numbers, reaches),
    st.tuples(st.just("pin"), devices, st.one_of(st.none(), versions)),
    st.tuples(st.just("retry"), devices, versions),
    st.tuples(st.just("halt"), st.booleans()),
    st.tuples(st.just("unhalt")),
    st.tuples(st.just("follow"), st.booleans()),
    st.tuples(st.just("max attempts"), st.integers(1, 3)),
)


def start() -> Fleet:
    fleet = Fleet()
    fleet.release(*VERSIONS[:-1])
    fleet.release("2.0.0", model="n")
    fleet.register("d1", "d2")
    fleet.register("d3", version=None)
    return fleet


def chosen(fleet: Fleet, number: int) -> RolloutState:
    rollouts = list(fleet.control.rollouts)
    if number >= len(rollouts):
        raise Refused("unknown_rollout", "there are not as many")
    return control.existing(fleet.control, rollouts[number])


def do(fleet: Fleet, wish: tuple[Any, ...]) -> None:  # noqa: C901, PLR0912 (a table of commands)
    name = f"x{len(fleet.log)}"
    match wish:
        case "report", version, status, device:
            fleet.report(version, status, device)
        case "roll out", version, reach, percent:
            reports = None if percent is None else 2
            fleet.roll_out(version, name, reach=reach, failed_percent=percent, min_reports=reports)
        case "roll back", bad, to, reach:
            fleet.roll_back(bad, to, name, reach=reach)
        case "withdraw", version:
            if not control.is_withdrawn(fleet.control, "m", version) and version != "2.0.0":
                fleet.withdraw(version)
        case "pause", number:
            found = chosen(fleet, number)
            fleet.record(rollout.stream(found.id), rollout_decisions.decide_pause(found))
        case "resume", number:
            found = chosen(fleet, number)
            fleet.record(rollout.stream(found.id), rollout_decisions.decide_resume(found))
        case "abort", number:
            found = chosen(fleet, number)
            fleet.record(rollout.stream(found.id), rollout_decisions.decide_abort(found))
        case "advance", number, reach:
            found = chosen(fleet, number)
            before = {d for d in range(200) if rollout.reaches(found, f"d{d}", fleet.at)}
            fleet.record(
                rollout.stream(found.id), rollout_decisions.decide_advance(found, reach, fleet.at)
            )
            after = chosen(fleet, number)
            assert before <= {d for d in range(200) if rollout.reaches(after, f"d{d}", fleet.at)}
        case "pin", device, version:
            fleet.record(f"device/{device}", DeviceChanged(pinned=version))
        case "retry", device, version:
            fleet.record(f"device/{device}", AttemptsCleared(version))
        case "halt", is_all:
            fleet.record("project/acme", control.decide_halt(fleet.control, is_all=is_all))
        case ("unhalt",):
            fleet.record("project/acme", control.decide_resume(fleet.control))
        case "follow", follows:
            fleet.record("project/acme", SettingsChanged(follow_latest=follows))
        case "max attempts", attempts:
            fleet.record("project/acme", SettingsChanged(max_attempts=attempts))


def check(fleet: Fleet, device: str) -> None:
    """Compares one check-in with the law; failures are counted from the log alone."""
    before, halt = fleet.states[device], fleet.control.halt
    tried = attempts_by_the_log(fleet, device)
    *passed, last = fleet.trail(device)
    decision = fleet.check_in(device)
    assert (last.rule, last.decides) == (decision.rule, True)
    assert not any(step.decides for step in passed)
    assert decision == target.decide(fleet.case(device))
    if decision.version is None:
        assert decision.action == "none"
        return
    release = fleet.control.releases.get((before.model or "", decision.version))  # type: ignore[call-overload]
    assert release is not None, "another model's release"
    assert not release.is_withdrawn
    assert halt is None or (halt == "rollouts" and decision.reason == "rollback")
    assert tried.get(decision.version, 0) < fleet.control.settings.max_attempts
    if before.version is None or is_higher(before.version, decision.version):
        assert decision.reason in {"rollback", "pinned"}
    if decision.rollout is not None:
        assert rollout.reaches(fleet.control.rollouts[decision.rollout], device, fleet.at)


def attempts_by_the_log(  # noqa: C901 (a table of events)
    fleet: Fleet, device: str
) -> dict[str, int]:
    """Counts attempts as the documentation says: once an offer, since the last install or retry."""
    counted: dict[str, int] = {}
    can_count: set[str] = set()
    installing: set[str] = set()
    for each in fleet.log:
        if each.stream != f"device/{device}":
            continue
        match each.event:
            case UpdateOffered(version=version):
                can_count.add(version)
            case AttemptsCleared(version):
                counted[version] = 0
            case FirmwareInstalled(version=ran) | FirmwareRunning(version=ran):
                for version in (installing & can_count) - {ran}:
                    counted[version] = counted.get(version, 0) + 1
                    can_count.discard(version)
                installing.clear()
                counted[ran] = 0
                can_count.discard(ran)
            case UpdateFailed(version=version):
                if version in can_count:
                    counted[version] = counted.get(version, 0) + 1
                    can_count.discard(version)
                installing.discard(version)
            case UpdateProgressed(version=version, status="installing"):
                if version in can_count:
                    installing.add(version)
    return counted


@pytest.mark.slow
@settings(max_examples=200)
@given(story=st.lists(wishes, max_size=40))
def test_no_device_is_ever_offered_a_version_that_it_must_not_run(
    story: list[tuple[str, ...]],
) -> None:
    fleet = start()
    for wish in story:
        try:
            do(fleet, wish)
        except Refused:
            continue
        for device in DEVICES if wish[0] != "check in" else wish[1:]:
            check(fleet, device)
    for found in fleet.control.rollouts.values():
        for device in DEVICES:
            check_progress(fleet, device, found)


def check_progress(fleet: Fleet, device: str, found: RolloutState) -> None:
    """Compares the state of a device that the rollout is meant for with docs/rollouts.md."""
    own = [each for each in fleet.log if each.stream == f"device/{device}"]
    made = [each for each in own if isinstance(each.event, UpdateOffered)]
    offered = [each for each in made if offer_of(each).rollout == found.id]
    runs = fleet.states[device].version
    if found.is_rollback and not offered and runs != found.bad_version:
        return
    decision = fleet.decide(device)
    state, reason = progress.progress(fleet.case(device), found)
    assert reason == decision.reason
    assert state in EITHER or bool(offered) == (state in OFFERED)
    match state:
        case "installed":
            assert any(is_installed_since(own, each) for each in offered)
        case "exhausted":
            tried = attempts_by_the_log(fleet, device)[offer_of(offered[-1]).version]
            assert tried >= fleet.control.settings.max_attempts
        case "already":
            assert runs is not None
            assert found.version is not None
            assert not is_higher(found.version, runs)
        case "not_reached":
            assert not rollout.reaches(found, device, fleet.at)
        case "held":
            assert decision.rollout != found.id or decision.version is None
        case "pending":
            assert decision.version is not None
            assert decision.rollout == found.id
        case _:
            assert state in {"failed", "offered"}
    is_last = bool(offered) and made[-1] == offered[-1]  # so that reports are of this offer
    if is_last and is_installed_since(own, made[-1]):
        assert state == "installed"


def offer_of(recorded: Recorded) -> UpdateOffered:
    assert isinstance(recorded.event, UpdateOffered)
    return recorded.event


def is_installed_since(own: list[Recorded], offer: Recorded) -> bool:
    """Returns whether the device reported after the offer that it runs the offered version."""
    assert isinstance(offer.event, UpdateOffered)
    moving = (FirmwareInstalled, FirmwareRunning)
    return any(
        isinstance(each.event, moving) and each.event.version == offer.event.version
        for each in own
        if each.position > offer.position
    )


@settings(max_examples=100)
@given(story=st.lists(wishes, max_size=40))
def test_a_device_that_obeys_is_not_sent_back_and_forth(story: list[tuple[str, ...]]) -> None:
    """With no more commands, a device that follows its offers soon has nothing to do."""
    fleet = start()
    for wish in story:
        try:
            do(fleet, wish)
        except Refused:
            continue
    for device in DEVICES:
        for _ in range(len(VERSIONS) + 1):
            decision = fleet.check_in(device)
            if decision.version is None:
                break
            fleet.report(decision.version, "installed", device)
        assert fleet.check_in(device).version is None

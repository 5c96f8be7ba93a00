"""Tests how attempts at an offer end, and when a rollout pauses because of them."""

import pytest

from firmtrail.events.fleet import (
    DeviceChanged,
    FirmwareInstalled,
    FirmwareRunning,
    Status,
    UpdateFailed,
    UpdateProgressed,
)
from firmtrail.events.steering import AttemptsCleared, RolloutPaused, RolloutResumed
from firmtrail.rules import offer
from tests.steering import Fleet, new_fleet

type Reported = tuple[str, Status]
type Steps = list[Reported | str]


@pytest.fixture
def fleet() -> Fleet:
    return new_fleet()


def live(fleet: Fleet, steps: Steps) -> None:
    for step in steps:
        if step == "poll":
            fleet.check_in()
        elif step == "retry":
            fleet.record("device/d1", AttemptsCleared("1.1.0"))
        else:
            assert not isinstance(step, str)
            fleet.report(*step)


FAIL: Reported = ("1.1.0", "failed")
REJECT: Reported = ("1.1.0", "rejected")
INSTALLING: Reported = ("1.1.0", "installing")
DOWNLOADING: Reported = ("1.1.0", "downloading")
BOOTING: Reported = ("1.1.0", "rebooting")
OLD: Reported = ("1.0.0", "running")
NEW: Reported = ("1.1.0", "installed")

CASES: list[tuple[Steps, int, str | None]] = [
    ([FAIL], 0, None),
    (["poll"], 0, None),
    (["poll", FAIL], 1, "failed"),
    (["poll", REJECT], 1, "failed"),
    (["poll", FAIL, REJECT, FAIL], 1, "failed"),
    (["poll", "poll", FAIL], 1, "failed"),
    (["poll", FAIL, "poll", FAIL], 2, "failed"),
    (["poll", DOWNLOADING, OLD], 0, None),
    (["poll", INSTALLING, OLD], 1, "failed"),
    (["poll", BOOTING, OLD], 1, "failed"),
    (["poll", INSTALLING, OLD, OLD, FAIL], 1, "failed"),
    (["poll", INSTALLING, FAIL, OLD], 1, "failed"),
    (["poll", FAIL, NEW], 0, "installed"),
    (["poll", INSTALLING, NEW], 0, "installed"),
    (["poll", NEW, FAIL], 0, "installed"),
    (["poll", FAIL, "retry"], 0, "failed"),
    (["poll", FAIL, "retry", FAIL], 0, "failed"),
    (["poll", FAIL, "retry", "poll", FAIL], 1, "failed"),
    (["poll", ("1.2.0", "failed")], 0, None),
]


@pytest.mark.parametrize(("steps", "attempts", "outcome"), CASES)
def test_attempts_and_outcome(
    fleet: Fleet, steps: Steps, attempts: int, outcome: str | None
) -> None:
    live(fleet, steps)
    offers = list(fleet.offers["d1"].values())
    assert offer.attempts(offers, "1.1.0") == attempts
    assert (offers[0].outcome if offers else None) == outcome


def test_a_heartbeat_of_an_installed_version_changes_no_offer(fleet: Fleet) -> None:
    live(fleet, ["poll", NEW])
    before = dict(fleet.offers["d1"])
    live(fleet, [("1.1.0", "running"), ("1.1.0", "running")])
    assert all(fleet.offers["d1"][key] is each for key, each in before.items())


def test_a_late_report_of_an_outcome_changes_nothing(fleet: Fleet) -> None:
    live(fleet, ["poll"])
    fleet.record("device/d1", FirmwareInstalled("1.1.0", seq=9))
    fleet.record("device/d1", UpdateFailed("1.1.0", seq=8, status="failed"))
    assert fleet.offers["d1"]["r1", "1.1.0"].outcome == "installed"


def test_of_two_reports_at_one_place_the_later_recorded_comes_later(fleet: Fleet) -> None:
    live(fleet, ["poll"])
    fleet.record("device/d1", UpdateProgressed("1.1.0", seq=9, status="installing"))
    fleet.record("device/d1", FirmwareRunning("1.0.0"))  # at the highest seq so far
    assert fleet.offers["d1"]["r1", "1.1.0"].outcome == "failed"


def test_attempts_belong_to_the_version_not_to_the_offer(fleet: Fleet) -> None:
    live(fleet, ["poll", FAIL])
    fleet.record("device/d1", DeviceChanged(pinned="1.1.0"))
    live(fleet, ["poll", FAIL])
    assert {each.attempts for each in fleet.offers["d1"].values()} == {2}
    outcomes = {each.source: each.outcome for each in fleet.offers["d1"].values()}
    assert outcomes == {"r1": "failed", "pinned": "failed"}


@pytest.mark.parametrize(
    ("failed", "installed", "is_paused"),
    [(0, 9, False), (1, 8, False), (1, 9, False), (2, 8, True), (2, 7, False), (9, 0, False)],
)
def test_a_rollout_pauses_after_too_many_failures(
    failed: int, installed: int, is_paused: bool
) -> None:
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0")
    names = [f"d{n}" for n in range(failed + installed)]
    fleet.register(*names)
    fleet.roll_out("1.1.0", failed_percent=10, min_reports=10)
    for n, name in enumerate(names):
        fleet.check_in(name)
        fleet.report("1.1.0", "failed" if n < failed else "installed", name)
    rollout = fleet.control.rollouts["r1"]
    assert (rollout.phase == "paused") == is_paused
    if is_paused:
        last = fleet.log[-1].event
        assert last == RolloutPaused(failed=failed, installed=installed)


def test_outcomes_from_before_a_resume_no_longer_count() -> None:
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0")
    fleet.register("d1", "d2", "d3")
    fleet.roll_out("1.1.0", failed_percent=0, min_reports=1)
    for name in ("d1", "d2"):
        fleet.check_in(name)
        fleet.report("1.1.0", "failed", name)
        assert fleet.control.rollouts["r1"].phase == "paused"
        fleet.record("rollout/r1", RolloutResumed())
    fleet.check_in("d3")
    fleet.report("1.1.0", "installed", "d3")
    assert fleet.control.rollouts["r1"].phase == "running"

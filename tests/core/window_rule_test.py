"""Tests which window counts for a device, and what it may be offered outside of it."""

from itertools import product

import pytest

from firmtrail.events.fleet import DeviceChanged, SettingsChanged
from firmtrail.events.steering import Window
from firmtrail.events.times import time_ms
from tests.steering import Fleet

MINUTE_MS = 60_000
OPEN = Window("15 0 * * *", 300, "UTC")
"""Open from 00:15 to 00:20: at the beginning of a test."""
CLOSED = Window("0 2 * * *", 3600, "UTC")
AT_TWO = time_ms("1970-01-01T02:00:00Z")
CHOICES = (None, OPEN, CLOSED)


@pytest.fixture
def fleet() -> Fleet:
    """Returns a fleet: d1 of model m and cohort c ran 1.0.0, and runs 1.1.0."""
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0", "1.2.0")
    fleet.register("d1")
    fleet.record("device/d1", DeviceChanged(cohort="c"))
    fleet.report("1.1.0")
    return fleet


def set_windows(
    fleet: Fleet, cohort: Window | None, model: Window | None, project: Window | None
) -> None:
    changed = SettingsChanged(
        cohort_windows={"c": cohort, "d": CLOSED} if cohort else {"d": CLOSED},
        model_windows={"m": model, "n": CLOSED} if model else {"n": CLOSED},
        window=project,
    )
    fleet.record("project/acme", changed)


@pytest.mark.parametrize(("own", "cohort", "model", "project"), [*product(CHOICES, repeat=4)])
def test_the_first_window_counts_of_rollout_cohort_model_and_project(
    fleet: Fleet,
    own: Window | None,
    cohort: Window | None,
    model: Window | None,
    project: Window | None,
) -> None:
    set_windows(fleet, cohort, model, project)
    fleet.roll_out("1.2.0", window=own)
    counts = next((each for each in (own, cohort, model, project) if each is not None), None)
    decision = fleet.decide()
    if counts is CLOSED:
        assert (decision.version, decision.reason) == (None, "window")
        assert decision.not_before_ms == AT_TWO
    else:
        assert (decision.version, decision.reason) == ("1.2.0", "rollout")


@pytest.mark.parametrize(("own", "project"), [*product(CHOICES, repeat=2)])
def test_a_rollback_goes_by_no_window_but_its_own(
    fleet: Fleet, own: Window | None, project: Window | None
) -> None:
    set_windows(fleet, project, project, project)
    fleet.roll_back("1.1.0", window=own)
    decision = fleet.decide()
    if own is CLOSED:
        assert (decision.action, decision.version, decision.rollout) == ("none", None, "b1")
        assert (decision.reason, decision.not_before_ms) == ("window", AT_TWO)
        fleet.later_ms = AT_TWO - fleet.now_ms
        decision = fleet.decide()
    assert (decision.version, decision.reason) == ("1.0.0", "rollback")


@pytest.mark.parametrize("is_rollback", [False, True])
def test_an_offer_that_was_made_inside_a_window_stays_valid(
    fleet: Fleet, *, is_rollback: bool
) -> None:
    if is_rollback:
        fleet.roll_back("1.1.0", window=OPEN)
    else:
        fleet.roll_out("1.2.0", window=OPEN)
    fleet.register("d2", version="1.1.0")
    offered = fleet.check_in()
    assert offered.version is not None
    fleet.later_ms = 10 * MINUTE_MS
    assert fleet.decide().version == offered.version
    assert fleet.decide("d2").reason == ("no_previous" if is_rollback else "window")
    fleet.report(offered.version, "failed")
    assert fleet.decide().reason == "window", "the next attempt is a new offer"


@pytest.mark.parametrize("runs", ["1.2.0", "1.3.0"])
def test_a_device_that_needs_no_update_waits_for_no_window(fleet: Fleet, runs: str) -> None:
    fleet.roll_out("1.2.0", window=CLOSED)
    fleet.report(runs)
    decision = fleet.decide()
    assert (decision.reason, decision.target, decision.not_before_ms) == (
        "up_to_date",
        "1.2.0",
        None,
    )


def test_a_device_whose_attempts_are_exhausted_waits_for_no_window(fleet: Fleet) -> None:
    fleet.roll_out("1.2.0", window=OPEN)
    for _ in range(3):
        assert fleet.check_in().version == "1.2.0"
        fleet.report("1.2.0", "failed")
    fleet.later_ms = 10 * MINUTE_MS
    assert fleet.decide().reason == "attempts_exhausted"


def test_a_rollback_outside_its_window_lets_no_other_rule_decide(fleet: Fleet) -> None:
    """The device keeps the bad version, and is not sent up meanwhile."""
    fleet.roll_out("1.2.0")
    fleet.roll_back("1.1.0", window=CLOSED)
    assert (fleet.decide().reason, fleet.decide().rollout) == ("window", "b1")

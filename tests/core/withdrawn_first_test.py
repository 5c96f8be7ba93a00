"""Tests what an explanation says of a device whose target is withdrawn: which rollout it is not
sent by, and why."""

import pytest

from firmtrail.events.fleet import DeviceChanged
from firmtrail.events.steering import RolloutAborted, RolloutPaused
from tests.steering import Fleet


@pytest.fixture
def fleet() -> Fleet:
    """Returns a fleet: d1 of model m runs 1.0.0; m has releases up to 1.4.0."""
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0")
    fleet.register("d1")
    return fleet


def says(fleet: Fleet, reason: str = "withdrawn") -> str:
    """Returns what the rule that decides says, which sends the device nowhere for this reason."""
    decision = fleet.decide()
    assert (decision.action, decision.reason) == ("none", reason)
    return fleet.trail()[-1].says


def test_a_withdrawn_release_alone_is_the_reason(fleet: Fleet) -> None:
    fleet.roll_out("1.2.0")
    fleet.withdraw("1.2.0")
    assert says(fleet) == "1.2.0 is withdrawn"


def test_a_rollout_of_a_withdrawn_release_comes_before_an_older_one(fleet: Fleet) -> None:
    fleet.roll_out("1.3.0", "older")
    fleet.roll_out("1.4.0", "bad")
    fleet.withdraw("1.4.0")
    assert says(fleet) == (
        "1.4.0 is withdrawn; until it is aborted, rollout bad comes before the older rollout older "
        "of 1.3.0"
    )
    fleet.record("rollout/bad", RolloutAborted())
    assert fleet.decide().version == "1.3.0"


def test_a_newer_rollout_that_does_not_reach_the_device_is_named(fleet: Fleet) -> None:
    fleet.roll_out("1.2.0", "bad")
    fleet.roll_out("1.4.0", "newer", reach=0)
    fleet.withdraw("1.2.0")
    said = "1.2.0 is withdrawn; rollout newer of 1.4.0 does not reach it yet"
    assert says(fleet) == said
    fleet.record("rollout/newer", RolloutPaused())
    assert says(fleet) == said


@pytest.mark.parametrize(
    "members", [{"approvals": 1}, {"start_at": "2999-01-01T00:00:00.000Z"}], ids=str
)
def test_a_newer_rollout_that_has_not_begun_is_named(
    fleet: Fleet, members: dict[str, object]
) -> None:
    fleet.roll_out("1.2.0", "bad")
    fleet.roll_out("1.4.0", "newer", **members)
    fleet.withdraw("1.2.0")
    assert says(fleet) == "1.2.0 is withdrawn; rollout newer of 1.4.0 is newer, and has not begun"


def test_a_pin_on_a_withdrawn_release_comes_before_rollouts(fleet: Fleet) -> None:
    fleet.roll_out("1.4.0", "new")
    fleet.record("device/d1", DeviceChanged(pinned="1.2.0"))
    fleet.withdraw("1.2.0")
    assert says(fleet) == "1.2.0 is withdrawn; the pin comes before rollout new of 1.4.0"
    fleet.record("device/d1", DeviceChanged(pinned=None))
    assert fleet.decide().version == "1.4.0"


def test_a_recall_to_a_withdrawn_release_comes_before_rollouts(fleet: Fleet) -> None:
    fleet.report("1.2.0")
    fleet.roll_out("1.4.0", "new")
    fleet.roll_back("1.2.0", to="1.1.0")
    fleet.withdraw("1.1.0")
    assert says(fleet) == "1.1.0 is withdrawn; recall b1 comes before rollout new of 1.4.0"


@pytest.mark.parametrize("other", ["lower", "withdrawn", "another cohort"])
def test_a_rollout_that_would_not_update_the_device_is_not_named(fleet: Fleet, other: str) -> None:
    fleet.report("1.1.0")
    version = {"lower": "1.1.0", "withdrawn": "1.3.0"}.get(other, "1.4.0")
    cohort = "field" if other == "another cohort" else None
    fleet.roll_out(version, "other", cohort=cohort)
    fleet.roll_out("1.2.0", "bad")
    fleet.withdraw("1.2.0")
    if other == "withdrawn":
        fleet.withdraw("1.3.0")
    assert says(fleet) == "1.2.0 is withdrawn"


def test_a_device_that_runs_what_is_ordered_learns_of_a_rollout_that_does_not_reach_it(
    fleet: Fleet,
) -> None:
    fleet.roll_out("1.2.0", "old")
    fleet.report("1.2.0")
    assert says(fleet, "up_to_date") == "it runs 1.2.0"
    fleet.roll_out("1.4.0", "new", reach=0)
    assert says(fleet, "up_to_date") == "it runs 1.2.0; rollout new of 1.4.0 does not reach it yet"

"""Tests what a device should run: the rules in their order, each refusal, and the explanation."""

from typing import Any

import pytest

from firmtrail.events.fleet import (
    DeviceAccepted,
    DeviceChanged,
    DeviceRegistered,
    SettingsChanged,
)
from firmtrail.events.steering import (
    AttemptsCleared,
    Halted,
    Resumed,
    RolloutAborted,
    RolloutPaused,
    RolloutStarted,
    UpdateOffered,
)
from firmtrail.rules import control, rollout, rollout_decisions
from firmtrail.rules.device import Refused
from firmtrail.rules.situation import Decision
from tests.steering import Fleet


@pytest.fixture
def fleet() -> Fleet:
    """Returns a fleet: d1 of model m runs 1.0.0; m has 1.0.0 to 1.2.0 and a pre-release, n has
    2.0.0."""
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0", "1.2.0", "1.3.0-rc.1")
    fleet.release("2.0.0", model="n")
    fleet.register("d1")
    return fleet


def said(decision: Decision) -> tuple[str, str | None, str]:
    return decision.action, decision.version, decision.reason


def pin(fleet: Fleet, version: str | None) -> None:
    fleet.record("device/d1", DeviceChanged(pinned=version))


def follow(fleet: Fleet) -> None:
    fleet.record("project/acme", SettingsChanged(follow_latest=True))


def test_a_higher_release_reaches_no_device_without_an_order(fleet: Fleet) -> None:
    assert said(fleet.decide()) == ("none", None, "not_reached")
    fleet.report("1.2.0")
    assert said(fleet.decide()) == ("none", None, "up_to_date")


def test_a_rollout_sends_what_it_reaches_upwards_only(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0")
    assert said(fleet.decide()) == ("update", "1.1.0", "rollout")
    assert fleet.decide().rollout == "r1"
    fleet.report("1.1.0")
    assert said(fleet.decide()) == ("none", None, "up_to_date")
    fleet.report("1.2.0")
    assert said(fleet.decide()) == ("none", None, "up_to_date")


def test_a_device_that_waits_to_be_accepted_is_offered_nothing(fleet: Fleet) -> None:
    fleet.record("device/d2", DeviceRegistered("m", pending=True))
    fleet.report("1.0.0", device="d2")
    fleet.roll_out("1.1.0")
    fleet.record("device/d2", DeviceChanged(pinned="1.2.0"))
    assert said(fleet.decide("d2")) == ("none", None, "pending")
    fleet.record("device/d2", DeviceAccepted())
    assert said(fleet.decide("d2")) == ("update", "1.2.0", "pinned")


def test_the_newest_rollout_that_reaches_decides_alone(fleet: Fleet) -> None:
    fleet.roll_out("1.2.0", "old")
    fleet.roll_out("1.1.0", "new")
    assert fleet.decide().version == "1.1.0"
    fleet.record("rollout/new", RolloutPaused())
    assert said(fleet.decide()) == ("none", None, "paused")
    fleet.record("rollout/new", RolloutAborted())
    assert fleet.decide().version == "1.2.0"
    fleet.roll_out("1.1.0", "unreached", reach=0)
    assert fleet.decide().version == "1.2.0"
    fleet.withdraw("1.2.0")
    assert said(fleet.decide()) == ("none", None, "withdrawn")


@pytest.mark.parametrize(
    ("members", "is_reached"),
    [
        ({}, True),
        ({"cohort": "beta"}, True),
        ({"cohort": "x"}, False),
        ({"tag": "t"}, True),
        ({"tag": "x"}, False),
        ({"reach": 0}, False),
    ],
)
def test_a_rollout_is_for_a_model_a_cohort_or_a_tag(
    fleet: Fleet, members: dict[str, Any], is_reached: bool
) -> None:
    fleet.record("device/d1", DeviceChanged(cohort="beta", tags=("t", "u")))
    fleet.register("d2", model="n")
    fleet.roll_out("1.1.0", **members)
    assert (fleet.decide().reason == "rollout") == is_reached
    assert fleet.decide("d2").reason == "not_reached"


def test_a_pin_decides_before_any_rollout_also_downwards(fleet: Fleet) -> None:
    fleet.roll_out("1.2.0")
    pin(fleet, "1.1.0")
    assert said(fleet.decide()) == ("update", "1.1.0", "pinned")
    fleet.report("1.2.0")
    assert said(fleet.decide()) == ("rollback", "1.1.0", "pinned")
    fleet.report("1.1.0")
    assert said(fleet.decide()) == ("none", None, "up_to_date")
    for pinned, reason in (("2.0.0", "wrong_model"), ("9.9.9", "no_release")):
        pin(fleet, pinned)
        assert said(fleet.decide()) == ("none", None, reason)


def test_a_halt_comes_first_and_stops_rollbacks_only_if_all(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0")
    fleet.record("project/acme", Halted())
    assert said(fleet.decide()) == ("none", None, "halted")
    fleet.report("1.2.0")
    fleet.roll_back("1.2.0", "1.0.0")
    assert said(fleet.decide()) == ("rollback", "1.0.0", "rollback")
    pin(fleet, "1.1.0")
    assert said(fleet.decide()) == ("none", None, "halted")
    pin(fleet, "1.2.0")
    fleet.record("project/acme", Halted(all=True))
    assert said(fleet.decide()) == ("none", None, "halted")
    fleet.record("project/acme", Resumed())
    assert said(fleet.decide()) == ("rollback", "1.0.0", "rollback")


def test_a_rollback_outranks_a_pin_on_the_version_it_names_and_no_other(fleet: Fleet) -> None:
    fleet.report("1.2.0")
    pin(fleet, "1.2.0")
    fleet.roll_back("1.2.0", "1.0.0")
    assert said(fleet.decide()) == ("rollback", "1.0.0", "rollback")
    pin(fleet, "1.1.0")
    assert said(fleet.decide()) == ("rollback", "1.1.0", "pinned")


def test_follow_latest_takes_releases_that_no_rollout_ever_carried(fleet: Fleet) -> None:
    follow(fleet)
    assert said(fleet.decide()) == ("update", "1.2.0", "follow_latest")
    fleet.roll_out("1.2.0", reach=0)
    assert said(fleet.decide()) == ("update", "1.1.0", "follow_latest")
    fleet.record("rollout/r1", RolloutAborted())
    assert said(fleet.decide()) == ("update", "1.1.0", "follow_latest")
    fleet.report("1.2.0")
    assert said(fleet.decide()) == ("none", None, "up_to_date")


def test_a_device_that_never_said_what_it_runs_is_not_updated_blindly(fleet: Fleet) -> None:
    fleet.register("d2", version=None)
    assert fleet.decide("d2").reason == "unknown_version"
    fleet.roll_out("1.1.0")
    assert fleet.decide("d2").reason == "unknown_version"
    fleet.record("device/d2", DeviceChanged(pinned="1.1.0"))
    assert said(fleet.decide("d2")) == ("update", "1.1.0", "pinned")
    fleet.register("d3", model="other")
    assert fleet.decide("d3").reason == "no_release"


def test_the_previous_version_is_the_last_good_one_before_the_bad(fleet: Fleet) -> None:
    fleet.report("1.1.0")
    fleet.report("0.9.0")  # no release
    fleet.report("1.2.0")
    fleet.report("1.2.0", "running")
    fleet.roll_back("1.2.0")
    assert said(fleet.decide()) == ("rollback", "1.1.0", "rollback")
    fleet.withdraw("1.1.0")
    assert said(fleet.decide()) == ("rollback", "1.0.0", "rollback")
    fleet.report("1.0.0", "failed")
    assert said(fleet.decide()) == ("none", None, "no_previous")


def test_the_previous_version_is_fixed_at_the_first_offer(fleet: Fleet) -> None:
    fleet.report("1.1.0")
    fleet.report("1.2.0")
    fleet.roll_back("1.2.0")
    assert fleet.check_in().version == "1.1.0"
    fleet.report("1.1.0", "failed")
    assert fleet.check_in().version == "1.1.0"


def test_a_way_back_that_is_withdrawn_is_chosen_again(fleet: Fleet) -> None:
    fleet.report("1.1.0")
    fleet.report("1.2.0")
    fleet.roll_back("1.2.0")
    assert fleet.check_in().version == "1.1.0"
    fleet.withdraw("1.1.0")
    assert said(fleet.check_in()) == ("rollback", "1.0.0", "rollback")
    fleet.withdraw("1.0.0")
    assert said(fleet.decide()) == ("none", None, "no_previous")
    assert fleet.trail()[-1].says == (
        "1.0.0 is withdrawn, and there is no earlier good version to go back to from 1.2.0"
    )


def test_a_way_back_that_is_exhausted_is_chosen_again(fleet: Fleet) -> None:
    fleet.report("1.1.0")
    fleet.report("1.2.0")
    fleet.roll_back("1.2.0")
    for version in ("1.1.0", "1.0.0"):
        for _ in range(3):
            assert said(fleet.check_in()) == ("rollback", version, "rollback")
            fleet.report(version, "failed")
    assert said(fleet.check_in()) == ("none", None, "no_previous")
    assert "3 of 3 attempts at 1.0.0 failed" in fleet.trail()[-1].says
    fleet.record("device/d1", AttemptsCleared("1.0.0"))
    assert said(fleet.check_in()) == ("rollback", "1.0.0", "rollback")


def test_a_fallback_that_is_withdrawn_or_exhausted_is_no_way_back(fleet: Fleet) -> None:
    fleet.register("d2", version="1.2.0")
    fleet.roll_back("1.2.0", fallback="1.1.0")
    for _ in range(3):
        assert fleet.check_in("d2").version == "1.1.0"
        fleet.report("1.1.0", "failed", "d2")
    assert said(fleet.decide("d2")) == ("none", None, "no_previous")
    fleet.record("device/d2", AttemptsCleared("1.1.0"))
    assert fleet.decide("d2").version == "1.1.0"
    fleet.withdraw("1.1.0")
    assert said(fleet.decide("d2")) == ("none", None, "no_previous")


def test_a_rollback_of_the_way_back_chooses_again(fleet: Fleet) -> None:
    fleet.report("1.1.0")
    fleet.report("1.2.0")
    fleet.roll_back("1.2.0")
    assert fleet.check_in().version == "1.1.0"
    fleet.roll_back("1.1.0", name="b2")
    assert said(fleet.check_in()) == ("rollback", "1.0.0", "rollback")


def test_without_a_previous_version_the_fallback_is_offered(fleet: Fleet) -> None:
    fleet.register("d2", version="1.2.0")
    fleet.roll_back("1.2.0", fallback="1.1.0")
    assert said(fleet.decide("d2")) == ("rollback", "1.1.0", "rollback")


def test_a_rolled_back_device_is_not_sent_to_the_bad_version_again(fleet: Fleet) -> None:
    fleet.roll_out("1.2.0")
    follow(fleet)
    assert fleet.check_in().version == "1.2.0"
    fleet.report("1.2.0")
    fleet.roll_back("1.2.0")
    assert fleet.check_in().version == "1.0.0"
    fleet.report("1.0.0")
    assert said(fleet.decide()) == ("none", None, "withdrawn")
    fleet.record("rollout/r1", RolloutAborted())
    assert fleet.decide().version == "1.1.0"  # the latest that is left


def test_a_target_that_a_device_failed_too_often_is_not_offered_again(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0")
    for attempt in (1, 2, 3):
        assert said(fleet.check_in()) == ("update", "1.1.0", "rollout")
        made = fleet.offers_made()[-1].event
        assert isinstance(made, UpdateOffered)
        assert made.attempt == attempt
        fleet.report("1.1.0", "failed")
    assert said(fleet.check_in()) == ("none", None, "attempts_exhausted")
    fleet.roll_out("1.1.0", "r2")
    assert said(fleet.check_in()) == ("none", None, "attempts_exhausted")
    fleet.record("device/d1", AttemptsCleared("1.1.0"))
    assert said(fleet.check_in()) == ("update", "1.1.0", "rollout")


def test_the_trail_lists_every_rule_up_to_the_deciding_one(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0")
    trail = fleet.trail()
    assert [(step.rule, step.decides) for step in trail] == [
        ("halt", False),
        ("pin", False),
        ("rollback", False),
        ("rollout", True),
    ]
    assert trail[-1].inputs["bucket"] == rollout.bucket("r1", "d1")
    assert trail[-1].says == "rollout r1 sends it to 1.1.0"


def test_buckets_are_the_digest_of_rollout_and_device() -> None:
    # printf 'r1/d1' | sha256sum, mod 10 000
    assert (
        rollout.bucket("r1", "d1")
        == 0x87EAAC00777585449C75EA7B27F85B5FE44BCE92E68BBF5FB3C027DDB29EFA12 % 10_000
    )


def test_a_rollout_needs_a_release_that_is_not_withdrawn(fleet: Fleet) -> None:
    with pytest.raises(Refused, match="no release"):
        fleet.roll_out("9.9.9")
    fleet.withdraw("1.1.0")
    with pytest.raises(Refused, match="withdrawn"):
        fleet.roll_out("1.1.0")
    with pytest.raises(Refused, match="withdrawn"):
        fleet.roll_back("1.2.0", "1.1.0")
    with pytest.raises(Refused, match="lead away"):
        fleet.roll_back("1.2.0", "1.2.0")


def test_commands_that_mean_nothing_are_refused(fleet: Fleet) -> None:
    running = fleet.roll_out("1.1.0", reach=1_000)
    for refused in (
        lambda: rollout_decisions.decide_advance(running, 1_000, rollout.PlanTime(0)),
        lambda: rollout_decisions.decide_resume(running),
        lambda: control.decide_resume(fleet.control),
    ):
        with pytest.raises(Refused):
            refused()
    fleet.record("rollout/r1", RolloutPaused())
    with pytest.raises(Refused):
        rollout_decisions.decide_pause(fleet.control.rollouts["r1"])
    fleet.withdraw("1.1.0")
    with pytest.raises(Refused):
        control.commandable(fleet.control, "r1")
    fleet.record("rollout/r1", RolloutAborted())
    with pytest.raises(Refused):
        rollout_decisions.decide_abort(fleet.control.rollouts["r1"])


def test_no_rollout_leads_to_a_version_that_a_recall_names(fleet: Fleet) -> None:
    fleet.roll_back("9.9.9")
    fleet.release("9.9.9")  # as a log may have it whose version before allowed that
    with pytest.raises(Refused) as refused:
        control.decide_rollout(fleet.control, RolloutStarted("9.9.9", "m", rollout.BUCKETS))
    assert refused.value.code == "release_recalled"

"""Tests the numbers of a device's offers, and how an offer ends that has no outcome."""

import pytest
from msgspec.structs import replace

from firmtrail.events.fleet import SettingsChanged, Status
from firmtrail.events.steering import AttemptsCleared, OfferEnded, OfferEnding
from firmtrail.rules import action, offer
from firmtrail.rules.device import Placed, Refused
from firmtrail.rules.offer import EARLIER_ORDINALS_MAX, Offer
from firmtrail.rules.report import ReportCommand
from tests.steering import Fleet, new_fleet


def end(fleet: Fleet, ordinal: int, ending: OfferEnding = "cancelled") -> None:
    fleet.record("device/d1", OfferEnded("1.1.0", ordinal, ending, "r1"))


def offers_of(fleet: Fleet) -> list[Offer]:
    return list(fleet.offers["d1"].values())


def ordinals(fleet: Fleet) -> list[int]:
    return sorted(each.ordinal for each in offers_of(fleet))


def shown(fleet: Fleet) -> action.ShownOffer | None:
    return action.shown(fleet.case(), fleet.decide())


def test_each_offer_of_a_device_takes_the_next_number() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.check_in()
    assert ordinals(fleet) == [1]
    fleet.roll_out("1.2.0", "r2")
    fleet.check_in()
    assert ordinals(fleet) == [1, 2]
    fleet.report("1.2.0", "failed")
    fleet.check_in()
    assert ordinals(fleet) == [1, 3]


def test_an_offer_is_found_by_each_of_its_last_numbers() -> None:
    fleet = new_fleet()
    for _ in range(EARLIER_ORDINALS_MAX + 2):
        fleet.check_in()
        fleet.record("device/d1", AttemptsCleared("1.1.0"))
    numbers = range(1, EARLIER_ORDINALS_MAX + 4)
    found = [n for n in numbers if offer.numbered(offers_of(fleet), n)]
    assert found == list(range(2, EARLIER_ORDINALS_MAX + 3))


def test_a_cancelled_offer_is_no_attempt_and_is_made_again_with_a_new_number() -> None:
    fleet = new_fleet()
    fleet.check_in()
    end(fleet, 1)
    fleet.report("1.1.0", "failed")
    [given_up] = offers_of(fleet)
    assert (given_up.outcome, given_up.attempts, given_up.is_pending) == (None, 0, False)
    fleet.check_in()
    [made] = offers_of(fleet)
    assert (made.ordinal, made.attempt, made.ending) == (2, 1, None)
    fleet.report("1.1.0", "failed")
    assert offers_of(fleet)[0].attempts == 1


def test_a_cancelled_install_does_not_fail_as_the_old_version_runs() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.report("1.1.0", "installing")
    end(fleet, 1)
    fleet.report("1.0.0", "running")
    assert offers_of(fleet)[0].attempts == 0


def test_a_confirmed_offer_gets_its_outcome_from_the_version_that_runs_next() -> None:
    for version, outcome in (("1.1.0", "installed"), ("1.0.0", "failed")):
        fleet = new_fleet()
        fleet.check_in()
        fleet.report("1.1.0", "rebooting")
        end(fleet, 1, "confirmed")
        assert shown(fleet) is None
        fleet.report(version, "running")
        assert offers_of(fleet)[0].outcome == outcome


def test_the_end_of_an_earlier_offer_changes_nothing() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.report("1.1.0", "failed")
    fleet.check_in()
    before = offers_of(fleet)
    end(fleet, 1)
    end(fleet, 9)
    assert offers_of(fleet) == before


def test_an_action_that_is_not_begun_is_cancelled_when_something_else_is_decided() -> None:
    fleet = new_fleet()
    assert shown(fleet) is None
    fleet.check_in()
    fleet.report("1.1.0", "downloading")
    first = shown(fleet)
    assert first is not None and not first.is_cancelling
    fleet.roll_out("1.2.0", "r2")
    second = shown(fleet)
    assert second is not None and second.is_cancelling and second.offer.ordinal == 1
    end(fleet, 1)
    assert shown(fleet) is None
    fleet.check_in()
    third = shown(fleet)
    assert third is not None and third.offer.version == "1.2.0" and not third.is_cancelling


def test_an_action_that_installs_stays_whatever_is_decided() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.report("1.1.0", "installing")
    fleet.withdraw("1.1.0")
    fleet.roll_out("1.2.0", "r2")
    stays = shown(fleet)
    assert stays is not None and stays.offer.version == "1.1.0" and not stays.is_cancelling
    fleet.report("1.1.0", "failed")
    assert shown(fleet) is None


ABOUT_FIRST = ReportCommand("d1", "", "installed", "device/d1", report_id="r", offer=1)


def resolved(fleet: Fleet, report: ReportCommand) -> ReportCommand:
    return action.of_offer(report, offers_of(fleet), fleet.control)


def test_a_report_about_an_offer_has_its_version_and_rollout() -> None:
    fleet = new_fleet()
    fleet.check_in()
    found = resolved(fleet, ABOUT_FIRST)
    assert (found.version, found.rollout) == ("1.1.0", fleet.decide().rollout)


@pytest.mark.parametrize("status", ["installed", "failed"])
def test_a_report_about_an_offer_that_is_over_or_was_never_made_needs_a_look(
    status: Status,
) -> None:
    fleet = new_fleet()
    with pytest.raises(Refused):
        resolved(fleet, ABOUT_FIRST)
    fleet.check_in()
    fleet.report("1.1.0", status)
    with pytest.raises(Refused):
        resolved(fleet, ABOUT_FIRST)
    fleet.check_in()
    assert ordinals(fleet) == ([1] if status == "installed" else [2])
    with pytest.raises(Refused):
        resolved(fleet, ABOUT_FIRST)


def test_an_install_waits_where_the_version_that_runs_next_decides() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.record("project/acme", SettingsChanged(version_attribute="version"))
    assert resolved(fleet, ABOUT_FIRST).version == "1.1.0"
    with pytest.raises(Refused):
        resolved(fleet, replace(ABOUT_FIRST, awaits_version=True))


def test_a_retry_does_not_replace_an_open_action() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.record("device/d1", AttemptsCleared("1.1.0"))
    now = shown(fleet)
    assert now is not None and not now.is_cancelling and now.offer.ordinal == 1


def test_a_silent_install_is_given_up_after_a_day() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.report("1.1.0", "installing")
    now = shown(fleet)
    assert now is not None
    state, called_ms = fleet.states["d1"], 2_000_000
    at_ms = called_ms + action.GIVEN_UP_MS
    assert not action.is_given_up(now, state, called_ms, at_ms)
    assert action.is_given_up(now, state, called_ms, at_ms + 1)


def test_a_cancellation_without_an_answer_ends_after_a_day() -> None:
    fleet = new_fleet()
    fleet.check_in()
    fleet.roll_out("1.2.0", "r2")
    now, state = shown(fleet), fleet.states["d1"]
    assert now is not None and now.is_cancelling
    at_ms = 1_000_000 + action.GIVEN_UP_MS
    assert not action.is_given_up(now, state, None, at_ms)
    assert action.is_given_up(now, state, at_ms, at_ms + 1_000)


@pytest.mark.parametrize(
    ("outcome_position", "outcome_place", "place", "is_open"),
    [
        (-1, -1, 9, False),
        (-1, -1, 10, True),
        (-1, -1, 11, True),
        (5, 20, 19, True),
        (5, 20, 20, False),
        (3, 20, 20, True),
    ],
)
def test_an_install_follows_an_offer_from_its_place_until_one_did(
    outcome_position: int, outcome_place: int, place: int, is_open: bool
) -> None:
    made = Offer("d1", "r1", "1.1.0", "rollout", 4, 0, 1, 0, place=10, outcome="installed")
    made = replace(made, outcome_position=outcome_position, outcome_place=outcome_place)
    assert made.is_open(Placed(place, 9, 0, None, None, late=False)) == is_open

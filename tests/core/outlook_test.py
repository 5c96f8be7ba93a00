"""Tests which phases of a plan may never end, what a forecast says of them, and when a rollout
ended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import SettingsChanged
from firmtrail.events.steering import (
    PlanPhase,
    RolloutAborted,
    RolloutPhaseMet,
    RolloutStarted,
    Window,
)
from firmtrail.events.times import time_text
from firmtrail.rules import outlook, phases, plan, rollout
from firmtrail.rules.control import Control
from firmtrail.rules.outlook import Counted, Outlook
from firmtrail.rules.phases import ExpectedPhase
from firmtrail.rules.rollout import PlanTime, Recent, RolloutState
from tests.steering import Fleet

AT = PlanTime(1_000_000)
DAY_S = 86_400
DAY_MS = DAY_S * 1000
NIGHT = Window("0 2 * * *", 3600, "UTC")
AT_TWO_MS = 7_200_000


def started(*plan: PlanPhase) -> RolloutState:
    event = RolloutStarted("2.0.0", "m", plan[0].reach, plan=plan)
    return rollout.started(Recorded(0, AT.now_ms, "rollout/r", "e", "user/u", event))


def outcomes(installed: int, failed: int, *, phase: int = 0) -> Recent:
    return Recent(phase=phase, phase_installed=installed, phase_failed=failed)


def waits(percent: int, reports: int) -> PlanPhase:
    """Returns a phase for a tenth of the devices that waits for outcomes."""
    return PlanPhase(1_000, None, percent, reports)


NEVER = ": it may never end."


@pytest.mark.parametrize(
    ("first", "counted", "says"),
    [
        (PlanPhase(1_000), Counted(1), None),
        (PlanPhase(1_000, DAY_S), Counted(1), None),
        (waits(90, 10), Counted(100), None),
        (
            waits(90, 11),
            Counted(100),
            "waits for 11 reports, but reaches only about 10 more devices",
        ),
        (waits(90, 1), Counted(0), "waits for 1 report, but reaches no more devices"),
        (waits(90, 2), Counted(1), "waits for 2 reports, but reaches only about 1 more device"),
        (waits(90, 10), Counted(200, there=100), None),
        (
            waits(90, 10),
            Counted(200, there=110),
            "waits for 10 reports, but reaches only about 9 more devices",
        ),
        (waits(90, 10), Counted(200, 9, outcomes(9, 0), there=109), None),
        (waits(50, 20), Counted(150, 9, outcomes(9, 5)), None),
        (
            waits(50, 20),
            Counted(150, 9, outcomes(9, 4)),
            "waits for 20 reports and has 13, but reaches only about 6 more devices",
        ),
        (
            waits(90, 2),
            Counted(100, 10, outcomes(1, 0)),
            "waits for 2 reports and has 1, but reaches more devices only by chance",
        ),
        (
            waits(90, 20),
            Counted(100, 16, outcomes(16, 0)),
            "waits for 20 reports and has 16, but reaches no more devices",
        ),
        (
            PlanPhase(5_000, None, 90, 5),
            Counted(4, 4, outcomes(4, 0)),
            "waits for 5 reports and has 4, but reaches no more devices",
        ),
        (waits(90, 12), Counted(100, 10, outcomes(10, 0), offered=15), None),
        (
            waits(90, 12),
            Counted(100, 10, outcomes(10, 0), offered=11),
            "waits for 12 reports and has 10, but reaches only about 1 more device",
        ),
        (
            waits(90, 5),
            Counted(100, 9, outcomes(9, 3)),
            "waits for 90 % installs, but 3 of 12 outcomes failed, and it reaches only about 1 "
            "more device",
        ),
    ],
)
def test_a_phase_says_why_it_may_never_end(
    first: PlanPhase, counted: Counted, says: str | None
) -> None:
    state = started(first, PlanPhase(10_000))
    found = outlook.outlook(Control(), state, AT, counted).endless
    assert found == ({} if says is None else {0: f"Phase 1 {says}{NEVER}"})


@given(
    percent=st.integers(0, 100),
    reports=st.integers(1, 30),
    installed=st.integers(0, 20),
    failed=st.integers(0, 20),
    left=st.integers(0, 20),
)
def test_a_phase_may_never_end_if_no_number_of_further_installs_ends_it(
    percent: int, reports: int, installed: int, failed: int, left: int
) -> None:
    phase = PlanPhase(10_000, None, percent, reports)
    counted = Counted(installed + left, installed, outcomes(installed, failed))
    found = outlook.outlook(Control(), started(phase, PlanPhase(10_000)), AT, counted).endless
    can_end = any(plan.is_met(phase, installed + more, failed) for more in range(left + 1))
    assert (not found) == can_end


@pytest.mark.parametrize(
    ("first", "counted", "says"),
    [
        (waits(90, 90), Counted(1_000), "90 reports, but reaches about 100 new devices"),
        (waits(90, 83), Counted(1_000), "83 reports, but reaches about 100 new devices"),
        (waits(90, 82), Counted(1_000), None),
        (waits(90, 90), Counted(1_000, offered=1), None),
        (waits(90, 101), Counted(1_000), None),
        (PlanPhase(9_999, None, 90, 10), Counted(10), None),
        (PlanPhase(1_000, DAY_S), Counted(1), None),
    ],
)
def test_a_phase_may_reach_too_few_devices_by_chance(
    first: PlanPhase, counted: Counted, says: str | None
) -> None:
    found = outlook.outlook(Control(), started(first, PlanPhase(10_000)), AT, counted).doubts
    few = ": by chance they may be too few, and it may never end."
    assert found == (() if says is None else (f"Phase 1 waits for {says}{few}",))


def test_only_phases_that_have_not_ended_may_never_end() -> None:
    """The last phase ends with the rollout, and a condition that was met stays met."""
    state = started(waits(90, 50), PlanPhase(2_000, None, 90, 11), PlanPhase(10_000, None, 90, 999))
    counted = Counted(100, 10, outcomes(10, 0))
    assert [*outlook.outlook(Control(), state, AT, counted).endless] == [0, 1]
    met = Recorded(1, AT.now_ms, "rollout/r", "f", "system", RolloutPhaseMet(0, 50, 0))
    state = rollout.evolve(state, met)
    assert [*outlook.outlook(Control(), state, AT, counted).endless] == [1]


def test_nothing_is_expected_after_a_phase_that_may_never_end() -> None:
    state = started(
        PlanPhase(100, DAY_S),
        PlanPhase(1_000, DAY_S, 90, 99),
        PlanPhase(2_000, 60),
        PlanPhase(9_000),
    )
    ahead = outlook.outlook(Control(), state, AT, Counted(100))
    begins_ms = AT.now_ms + DAY_MS
    assert phases.forecast(state, AT, ahead) == [
        ExpectedPhase(AT.now_ms, begins_ms),
        ExpectedPhase(begins_ms, None),
        ExpectedPhase(None, None),
        ExpectedPhase(None, None),
    ]
    later = PlanTime(begins_ms)
    lines = phases.progress(
        state, later, (), outlook.outlook(Control(), state, later, Counted(100))
    )
    assert [(each.state, each.earliest_end_ms) for each in lines[:2]] == [
        ("done", None),
        ("current", None),
    ]
    assert lines[1].endless == (
        f"Phase 2 waits for 99 reports, but reaches only about 10 more devices{NEVER}"
    )


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.release("1.1.0")
    fleet.register("d1")
    return fleet


def roll_out(fleet: Fleet, start_at: str | None = None) -> RolloutState:
    fleet.roll_out("1.1.0", plan=(PlanPhase(1_000, 60), PlanPhase(10_000)), start_at=start_at)
    return fleet.control.rollouts["r1"]


def lines_of(fleet: Fleet) -> list[tuple[str, int | None]]:
    """Returns the state of each phase of the rollout, and when it began or is expected to begin."""
    state = fleet.control.rollouts["r1"]
    at = outlook.last_time(fleet.control, state, fleet.now_ms)
    ahead = outlook.outlook(fleet.control, state, at, Counted(10))
    lines = phases.progress(state, at, (), ahead)
    begins = [each.begins_at_ms for each in phases.forecast(state, at, ahead)]
    if ahead.is_over:
        assert [each.earliest_end_ms for each in lines] == [None, None]
    return [(each.state, begin) for each, begin in zip(lines, begins, strict=True)]


@pytest.mark.parametrize("ends", ["aborts", "withdraws"])
def test_nothing_is_expected_of_a_rollout_that_is_over(fleet: Fleet, ends: str) -> None:
    began_ms = roll_out(fleet).started_at_ms
    assert lines_of(fleet) == [("current", began_ms), ("next", began_ms + 60_000)]
    fleet.later_ms += 59_000
    ended_ms = fleet.now_ms
    if ends == "aborts":
        fleet.record("rollout/r1", RolloutAborted())
    else:
        fleet.withdraw("1.1.0")
    fleet.later_ms += DAY_MS
    assert outlook.ended_at_ms(fleet.control, fleet.control.rollouts["r1"]) == ended_ms
    assert lines_of(fleet) == [("current", began_ms), ("next", None)]


def test_a_rollout_that_was_aborted_before_its_start_never_begins(fleet: Fleet) -> None:
    start_ms = fleet.now_ms + 60_000
    roll_out(fleet, time_text(start_ms))
    assert lines_of(fleet) == [("next", start_ms), ("next", start_ms + 60_000)]
    fleet.record("rollout/r1", RolloutAborted())
    fleet.later_ms += DAY_MS
    assert lines_of(fleet) == [("next", None), ("next", None)]


def test_a_rollout_ended_with_the_first_of_its_ends(fleet: Fleet) -> None:
    assert outlook.ended_at_ms(fleet.control, roll_out(fleet)) is None
    withdrawn_ms = fleet.now_ms
    fleet.withdraw("1.1.0")
    fleet.later_ms += DAY_MS
    fleet.record("rollout/r1", RolloutAborted())
    assert outlook.ended_at_ms(fleet.control, fleet.control.rollouts["r1"]) == withdrawn_ms


def test_a_window_is_waited_for_until_it_opens(fleet: Fleet) -> None:
    fleet.record("project/acme", SettingsChanged(window=NIGHT))
    state = roll_out(fleet)
    assert outlook.opens_at_ms(fleet.control, state, fleet.now_ms) == AT_TWO_MS
    assert outlook.opens_at_ms(fleet.control, state, AT_TWO_MS) is None


def test_a_rollback_waits_only_for_a_window_of_its_own(fleet: Fleet) -> None:
    fleet.record("project/acme", SettingsChanged(window=NIGHT))
    fleet.roll_back("1.1.0")
    [recall] = fleet.control.rollouts.values()
    assert outlook.opens_at_ms(fleet.control, recall, fleet.now_ms) is None
    fleet.roll_back("1.0.0", name="b2", window=NIGHT)
    recall = fleet.control.rollouts["b2"]
    assert outlook.opens_at_ms(fleet.control, recall, fleet.now_ms) == AT_TWO_MS


def test_an_outlook_without_anything_in_the_way_is_empty() -> None:
    assert outlook.outlook(Control(), started(PlanPhase(10_000)), AT, Counted(1)) == Outlook()

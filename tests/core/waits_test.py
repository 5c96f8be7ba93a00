"""Tests the sentences about what a rollout waits for."""

from typing import Any

import pytest

from firmtrail.events.event import Event
from firmtrail.events.fleet import SettingsChanged
from firmtrail.events.steering import (
    Halted,
    PlanPhase,
    RolloutAborted,
    RolloutApproved,
    RolloutPaused,
    RolloutPhaseMet,
    Window,
)
from firmtrail.rules.outlook import Counted, outlook
from firmtrail.rules.phases import past, progress
from firmtrail.rules.waits import waits
from tests.steering import Fleet

NIGHT = Window("0 2 * * *", 3600, "UTC")
OPEN = Window("* * * * *", 3600, "UTC")
OF_DEVICES = Window("0 2 * * *", 3600, "device")
AT_TWO = "1970-01-01T02:00:00.000Z"
CLOSED = f"is closed, and opens at {AT_TWO}."
PROJECT: dict[str, Any] = {"window": NIGHT}
MODEL = {"model_windows": {"m": NIGHT}}
COHORT = {"cohort_windows": {"lab": NIGHT, "dock": OPEN}}
DEVICES = 500
"""As many as make each condition here possible."""
OTHERS = "These cohorts have windows of their own: dock, lab."


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.release("1.1.0")
    fleet.register("d1")
    return fleet


def said(fleet: Fleet) -> list[str]:
    """Returns what the first rollout or rollback waits for."""
    [name] = fleet.control.rollouts
    events = [each for each in fleet.log if each.stream == f"rollout/{name}"]
    found = past(events, fleet.at)
    state = fleet.control.rollouts[name]
    ahead = outlook(fleet.control, state, fleet.at, Counted(DEVICES))
    lines = progress(state, fleet.at, found.times, ahead)
    return waits(fleet.control, state, fleet.at.now_ms, lines)


def test_a_rollout_that_offers_to_all_waits_for_nothing(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0")
    assert said(fleet) == []


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ({}, {"window": NIGHT}, [f"Its window {CLOSED}"]),
        ({**PROJECT, **MODEL, **COHORT}, {"window": OPEN}, ["Its window is open."]),
        (
            {},
            {"window": OF_DEVICES},
            ["Its window (0 2 * * *) opens by the clock of each device."],
        ),
        (PROJECT, {}, [f"The window of the project {CLOSED}"]),
        ({**PROJECT, **MODEL}, {}, [f"The window of the model m {CLOSED}"]),
        ({**PROJECT, **COHORT}, {}, [f"The window of the project {CLOSED}", OTHERS]),
        (COHORT, {}, [OTHERS]),
        (COHORT, {"cohort": "dock"}, ["The window of the cohort dock is open."]),
        ({**MODEL, **COHORT}, {"cohort": "other"}, [f"The window of the model m {CLOSED}"]),
        ({"model_windows": {"n": NIGHT}}, {}, []),
    ],
)
def test_the_window_is_named_whether_it_is_the_rollouts_own_or_inherited(
    fleet: Fleet, settings: dict[str, Any], options: dict[str, Any], says: list[str]
) -> None:
    fleet.record("project/acme", SettingsChanged(**settings))
    fleet.roll_out("1.1.0", **options)
    assert said(fleet) == says


def test_a_rollback_waits_for_no_window_and_no_halt_of_rollouts(fleet: Fleet) -> None:
    fleet.record("project/acme", SettingsChanged(**PROJECT))
    fleet.roll_back("1.1.0")
    fleet.record("project/acme", Halted(all=False))
    assert said(fleet) == []


def test_a_halt_comes_first(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0", window=OPEN)
    fleet.record("project/acme", Halted(all=False))
    halted = "The project is halted: it offers nothing until the halt ends."
    assert said(fleet) == [halted, "Its window is open."]


def test_it_waits_for_approvals_and_its_start(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0", approvals=2, start_at=AT_TWO, window=NIGHT)
    fleet.record("rollout/r1", RolloutApproved("u"))
    starts = f"It starts at {AT_TWO}."
    assert said(fleet) == ["It waits for approvals: it has 1 of 2.", starts]
    fleet.record("rollout/r1", RolloutApproved("v"))
    assert said(fleet) == [starts]


BEGAN = "began at 1970-01-01T00:16:40.003Z"


@pytest.mark.parametrize(
    ("phase", "events", "says"),
    [
        (PlanPhase(1000), [], f"{BEGAN}, and ends when a person advances the rollout."),
        (PlanPhase(1000, 60), [], f"{BEGAN}, and ends at 1970-01-01T00:17:40.003Z."),
        (
            PlanPhase(1000, 60),
            [RolloutPaused()],
            f"{BEGAN}, and its time does not count while it is paused or halted.",
        ),
        (
            PlanPhase(1000, 60, 95, 50),
            [],
            f"{BEGAN}, waits for 50 outcomes with 95 % installs, and ends at "
            "1970-01-01T00:17:40.003Z at the earliest.",
        ),
        (
            PlanPhase(1000, 60, 95, 50),
            [RolloutPhaseMet(0, 50, 0)],
            f"{BEGAN}, and ends at 1970-01-01T00:17:40.003Z.",
        ),
    ],
)
def test_the_phase_says_what_ends_it(
    fleet: Fleet, phase: PlanPhase, events: list[Event], says: str
) -> None:
    fleet.roll_out("1.1.0", reach=1000, plan=(phase, PlanPhase(10_000)))
    for each in events:
        fleet.record("rollout/r1", each)
    assert said(fleet) == [f"Phase 1 of 2 (10 %) {says}"]


def test_the_last_phase_waits_for_nothing(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0", plan=(PlanPhase(10_000),))
    assert said(fleet) == [f"Phase 1 of 1 (100 %) {BEGAN}, and is the last."]


def test_a_rollout_that_is_over_waits_for_nothing(fleet: Fleet) -> None:
    fleet.roll_out("1.1.0", window=NIGHT, plan=(PlanPhase(10_000),))
    fleet.record("rollout/r1", RolloutAborted())
    fleet.record("project/acme", Halted(all=True))
    assert said(fleet) == []

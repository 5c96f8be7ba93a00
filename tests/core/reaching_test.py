"""Tests which phase of a plan reaches a device, and when, against what the clock then shows."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firmtrail.events.event import Event
from firmtrail.events.steering import (
    Halted,
    PlanPhase,
    Resumed,
    RolloutAborted,
    RolloutAdvanced,
    RolloutPaused,
    RolloutPhaseMet,
)
from firmtrail.events.times import time_text
from firmtrail.rules import phases, reaching, rollout
from firmtrail.rules.reaching import Reaching
from firmtrail.rules.rollout import PlanTime
from tests.steering import Fleet

LATER_MS = 100_000
"""Longer than any plan of these tests takes."""


def in_bucket(low: int, high: int) -> str:
    """Returns a device whose bucket in the rollout r1 is from `low` on, and below `high`."""
    names = (f"d{number}" for number in range(10_000))
    return next(name for name in names if low <= rollout.bucket("r1", name) < high)


def begun(plan: tuple[PlanPhase, ...], *events: tuple[str, Event], **members: Any) -> Fleet:
    fleet = Fleet()
    fleet.release("1.1.0", "1.2.0")
    fleet.roll_out("1.1.0", reach=plan[0].reach, plan=plan, **members)
    for stream, event in events:
        fleet.record(stream, event)
    return fleet


def found(fleet: Fleet, device: str) -> Reaching:
    of = fleet.control.rollouts["r1"]
    times = phases.past([each for each in fleet.log if each.stream == "rollout/r1"], fleet.at).times
    return reaching.reaching(of, device, fleet.at, times)


def is_reached(fleet: Fleet, device: str, now_ms: int) -> bool:
    """Returns whether the rollout offers the device its version at this time, as it is now."""
    of, at = fleet.control.rollouts["r1"], PlanTime(now_ms, fleet.control.halts)
    return rollout.reaches(of, device, at) and rollout.state_at(of, now_ms) == "running"


@st.composite
def plans(draw: st.DrawFn) -> tuple[PlanPhase, ...]:
    reaches = sorted(draw(st.sets(st.integers(1, 10), min_size=1, max_size=5)))
    kinds = st.sampled_from(("timed", "timed", "timed", "conditional", "manual"))
    found = []
    for reach in reaches:
        kind = draw(kinds)
        after_s = draw(st.integers(0, 9)) if kind in {"timed", "conditional"} else None
        when = (50, 1) if kind == "conditional" else (None, None)
        found.append(PlanPhase(1_000 * reach, after_s, *when))
    return tuple(found)


orders = st.sampled_from(
    (
        ("rollout/r1", RolloutPaused()),
        ("project/acme", Halted(all=False)),
        ("project/acme", Resumed()),
        ("rollout/r1", RolloutPhaseMet(0, 1, 0)),
    )
)


@given(
    plan=plans(),
    order=st.one_of(st.none(), orders),
    waited_ms=st.integers(0, 20_000),
    starts_in_ms=st.sampled_from((0, 0, 7_000)),
    device=st.integers(0, 40),
)
def test_the_time_at_which_a_phase_reaches_a_device_is_that_of_the_clock(
    plan: tuple[PlanPhase, ...],
    order: tuple[str, Event] | None,
    waited_ms: int,
    starts_in_ms: int,
    device: int,
) -> None:
    assume(not starts_in_ms or order is None or not isinstance(order[1], RolloutPhaseMet))
    name = f"d{device}"
    start_at = time_text(Fleet().now_ms + starts_in_ms) if starts_in_ms else None
    fleet = begun(plan, *([] if order is None else [order]), start_at=start_at)
    fleet.later_ms = waited_ms
    shown = found(fleet, name)
    first = next(
        (n for n, each in enumerate(plan) if rollout.bucket("r1", name) < each.reach), None
    )
    assert shown.phase == first, "no phase was skipped"
    now_ms, is_paused = fleet.now_ms, fleet.control.rollouts["r1"].phase == "paused"
    if shown.begins_at_ms is None:
        assert not is_reached(fleet, name, now_ms + LATER_MS)
    elif not is_paused:
        begins_ms = shown.begins_at_ms
        assert is_reached(fleet, name, max(begins_ms, now_ms))
        assert begins_ms <= now_ms or not is_reached(fleet, name, begins_ms - 1)
        assert (shown.state == "next") == (begins_ms > now_ms)


TIMED = (PlanPhase(1_000, 60), PlanPhase(5_000, 60), PlanPhase(8_000))
LAST = "Phase 3 of 3 (80 %) of rollout r1 will reach it"


@pytest.mark.parametrize(
    ("plan", "events", "says"),
    [
        (TIMED, [], f"{LAST} from 1970-01-01T00:18:40.002Z on, if nobody intervenes."),
        (TIMED, [("rollout/r1", RolloutPaused())], f"{LAST}. The rollout is paused."),
        (TIMED, [("project/acme", Halted(all=True))], f"{LAST}. The project is halted."),
        (
            (PlanPhase(1_000, 60), PlanPhase(5_000, 60, 95, 20), TIMED[-1]),
            [],
            f"{LAST}. Phase 2 waits for 20 outcomes with 95 % installs.",
        ),
        (
            (PlanPhase(1_000), PlanPhase(5_000, 60), TIMED[-1]),
            [],
            f"{LAST}. Phase 1 ends when a person advances the rollout.",
        ),
        (
            (PlanPhase(1_000, None, 95, 1), PlanPhase(5_000, 60), TIMED[-1]),
            [("rollout/r1", RolloutPhaseMet(0, 1, 0))],
            f"{LAST} from 1970-01-01T00:17:40.003Z on, if nobody intervenes.",
        ),
        (
            TIMED,
            [("rollout/r1", RolloutAdvanced(8_000, phase=2))],
            "Phase 3 of 3 (80 %) of rollout r1 has reached it since 1970-01-01T00:16:40.003Z.",
        ),
    ],
)
def test_the_sentence_says_what_the_phase_of_a_device_waits_for(
    plan: tuple[PlanPhase, ...], events: list[tuple[str, Event]], says: str
) -> None:
    assert found(begun(plan, *events), in_bucket(5_000, 8_000)).says == says


def test_a_phase_that_was_skipped_reaches_a_device_when_a_later_one_begins() -> None:
    fleet = begun(TIMED, ("rollout/r1", RolloutAdvanced(8_000, phase=2)))
    shown = found(fleet, in_bucket(1_000, 5_000))
    assert (shown.phase, shown.state) == (2, "current")


def test_a_plan_that_ends_before_the_device_says_so() -> None:
    shown = found(begun(TIMED), in_bucket(8_000, 10_000))
    assert shown == (
        *(None, None, None),
        "The plan of rollout r1 ends at 80 % and does not reach it.",
    )


def test_a_rollout_that_waits_for_approval_has_no_time() -> None:
    fleet = begun(TIMED, approvals=1)
    shown = found(fleet, in_bucket(0, 1_000))
    assert (shown.phase, shown.state, shown.begins_at_ms) == (0, "next", None)
    assert shown.says.endswith(" will reach it. The rollout waits for approval.")


def planned(fleet: Fleet) -> str | None:
    of = reaching.planned(fleet.case())
    return of.id if of else None


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda _: None, "r1"),
        (lambda fleet: fleet.roll_out("1.2.0", "r2", plan=TIMED), "r2"),
        (lambda fleet: fleet.roll_out("1.2.0", "r2"), "r1"),
        (lambda fleet: fleet.roll_out("1.2.0", "r2", plan=TIMED, cohort="c"), "r1"),
        (lambda fleet: fleet.report("1.1.0"), None),
        (lambda fleet: fleet.withdraw("1.1.0"), None),
        (lambda fleet: fleet.record("rollout/r1", RolloutAborted()), None),
    ],
)
def test_the_newest_plan_counts_that_leads_to_a_higher_version(
    act: Callable[[Fleet], object], expected: str | None
) -> None:
    fleet = begun(TIMED)
    fleet.register("d1")
    act(fleet)
    assert planned(fleet) == expected

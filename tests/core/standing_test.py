"""Tests that what is remembered of rollouts and windows is at any moment what the rules say: also
when the clock steps back, around a change to or from summer time, and by the clock of a device."""

from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace as with_members

from firmtrail.events.fleet import DeviceChanged, SettingsChanged
from firmtrail.events.steering import PlanPhase, Window
from firmtrail.events.times import time_ms
from firmtrail.rules import control, plan, rollout, target, window
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.release import ReleaseKey, ReleaseState
from firmtrail.rules.rollout import PlanTime, RolloutState
from tests.core.plan_test import halts, plans, second
from tests.steering import Fleet

DEVICES = [
    DeviceState(f"d{n}", model=model, cohort=cohort, tags=tags)
    for n, (model, cohort, tags) in enumerate(
        (model, cohort, tags)
        for model in (None, "m")
        for cohort in (None, "c", "other")
        for tags in ((), ("u", "t"))
    )
]

looks = st.lists(
    st.builds(lambda n, ms: second(n) + ms, st.integers(-2, 70), st.sampled_from((-1, 0, 1))),
    min_size=1,
    max_size=8,
)
"""Times in any order, at the edges of seconds, at which all that time changes begins or ends."""


@st.composite
def rollouts(draw: st.DrawFn, position: int) -> RolloutState:
    """Draws a rollout with or without a plan, in any state."""
    phases = draw(st.one_of(st.just(()), plans()))
    start_at_ms = draw(st.one_of(st.none(), st.integers(0, 20).map(second)))
    begins_ms = start_at_ms or second(0)
    is_begun = bool(phases) and draw(st.booleans())
    members: dict[str, Any] = {
        "model": draw(st.sampled_from(("m", "n"))),
        "cohort": draw(st.sampled_from((None, None, "c"))),
        "tag": draw(st.sampled_from((None, None, "t"))),
        "bad_version": draw(st.sampled_from((None, None, "1.0.0"))),
        "phase": draw(st.sampled_from(("running", "running", "paused", "aborted"))),
        "approvals": draw(st.sampled_from((0, 0, 1))),
        "version": draw(st.sampled_from(("1.1.0", "1.2.0"))),
        "reach": draw(st.sampled_from((0, 4_000, rollout.BUCKETS))),
    }
    return RolloutState(
        id=f"r{position}",
        position=position,
        started_at_ms=second(0),
        phase_position=position,
        phase_at_ms=second(0),
        resumed_position=position,
        start_at_ms=start_at_ms,
        plan=phases,
        clock=plan.begun(0, begins_ms) if is_begun else None,
        **members,
    )


@st.composite
def controls(draw: st.DrawFn) -> Control:
    count, stopped = draw(st.integers(0, 5)), draw(halts())
    found = [draw(rollouts(position)) for position in range(count)]
    withdrawn = ReleaseState("m", "1.1.0", position=0, added_at_ms=0, withdrawn_position=1)
    releases = {ReleaseKey("m", "1.1.0"): withdrawn}
    return Control(halts=stopped, releases=releases, rollouts={each.id: each for each in found})


def said(of: Control, device: DeviceState, at: PlanTime, bad_version: str | None) -> list[Any]:
    """Returns by the rules alone what the rollouts that are meant for a device do."""
    return [
        (
            each.id,
            rollout.state_at(each, at.now_ms),
            rollout.reach_at(each, at),
            clock.phase if (clock := rollout.clock_at(each, at)) else None,
            control.is_over(of, each),
            rollout.reaches(each, device.device, at),
        )
        for each in sorted(of.rollouts.values(), key=lambda each: -each.position)
        if each.phase != "aborted"
        if each.bad_version == bad_version
        if rollout.is_meant(each, device)
    ]


@given(of=controls(), times=looks, bad_version=st.sampled_from((None, "1.0.0")))
def test_a_remembered_standing_is_that_of_the_rules(
    of: Control, times: list[int], bad_version: str | None
) -> None:
    for now_ms in times:
        at = PlanTime(now_ms, of.halts)
        for device in DEVICES:
            meant = of.standings.meant_for(device, now_ms, bad_version)
            found = [
                (s.rollout.id, s.state, s.reach, s.phase, s.is_over, s.reaches(device.device))
                for s in meant
            ]
            assert found == said(of, device, at, bad_version)


def test_a_clock_that_steps_back_gets_the_phase_of_its_time() -> None:
    phases = (PlanPhase(100, 10), PlanPhase(5_000, 10), PlanPhase(10_000))
    fleet = Fleet()
    fleet.release("1.0.0", "1.1.0")
    begun = fleet.roll_out("1.1.0", plan=phases, reach=100)
    began_ms = begun.phase_at_ms

    def phase(passed_ms: int) -> int | None:
        standings = fleet.control.standings.meant_for(DeviceState("d", model="m"), passed_ms)
        [only] = standings
        return only.phase

    times = (19_999, 20_000, 9_999, 10_000, 0, 20_000)
    assert [phase(began_ms + passed_ms) for passed_ms in times] == [1, 2, 0, 1, 0, 2]


WINDOWS = [
    Window("30 2 * * *", 1800, "Europe/Berlin"),
    Window("*/7 * * * *", 120, "America/New_York"),
    Window("0 2 * * *", 5400, window.DEVICE_ZONE),
]
ZONES = ("Europe/Berlin", "Asia/Kathmandu", "nowhere", None)
CHANGES = [time_ms(f"2026-{day}T01:00:00Z") for day in ("03-29", "10-25")]
"""The times at which the clocks of Berlin change."""


def windowed() -> Fleet:
    """Returns a fleet with a window of the project, of a cohort and of a rollout of its own."""
    fleet = Fleet(later_ms=CHANGES[0] - 86_400_000)
    fleet.release("1.0.0", "1.1.0", "1.2.0")
    fleet.register("d1", "d2")
    fleet.record("device/d2", DeviceChanged(cohort="c"))
    settings = SettingsChanged(window=WINDOWS[0], cohort_windows={"c": WINDOWS[1]})
    fleet.record("project/acme", settings)
    plan_of = (PlanPhase(5_000, 3600), PlanPhase(10_000))
    fleet.roll_out("1.1.0", "r1", plan=plan_of, reach=5_000)
    fleet.roll_out("1.2.0", "r2", reach=5_000, window=WINDOWS[2])
    return fleet


around = st.builds(
    lambda change, minutes, ms: change + minutes * 60_000 + ms,
    st.sampled_from(CHANGES),
    st.integers(-180, 180),
    st.sampled_from((-1, 0, 1)),
)


@given(times=st.lists(around, min_size=1, max_size=6), zone=st.sampled_from(ZONES))
@example(
    times=[CHANGES[1] + 90 * 60_000, CHANGES[1] + 30 * 60_000, CHANGES[0]], zone="Europe/Berlin"
)
def test_a_decision_that_remembers_is_one_that_does_not(times: list[int], zone: str | None) -> None:
    fleet = windowed()
    for now_ms in times:
        for name in ("d1", "d2"):
            case = with_members(fleet.case(name), now_ms=now_ms, timezone=zone)
            remembering = target.decide(case)
            window._opening.cache_clear()
            assert remembering == target.decide(with_members(case, control=replace(case.control)))

"""Tests that a changed plan only lets a rollout reach more devices, whatever happened before."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmtrail.events.event import Event, Recorded
from firmtrail.events.steering import (
    Order,
    PlanPhase,
    RolloutApproved,
    RolloutPaused,
    RolloutPlanChanged,
    RolloutResumed,
    RolloutStarted,
)
from firmtrail.events.times import time_text
from firmtrail.rules import phases, plan, rollout, rollout_decisions
from firmtrail.rules.device import Refused
from firmtrail.rules.outlook import Outlook
from firmtrail.rules.rollout import PlanTime, RolloutState

STEP_MS = 1000


@st.composite
def plans(draw: st.DrawFn) -> tuple[PlanPhase, ...]:
    reaches = sorted(draw(st.sets(st.integers(0, 100), min_size=1, max_size=4)))
    seconds = st.one_of(st.none(), st.integers(0, 4))
    return tuple(PlanPhase(100 * reach, draw(seconds)) for reach in reaches)


orders = st.one_of(
    st.builds(RolloutPlanChanged, plans(), st.sampled_from((None, 1)), st.just("u_2")),
    st.just(RolloutPaused()),
    st.just(RolloutResumed()),
    st.just(RolloutApproved(by="u_3")),
)
stories = st.lists(st.tuples(st.integers(0, 3), orders), max_size=8)


def decided(state: RolloutState, order: Event, at: PlanTime) -> Event:
    match order:
        case RolloutPlanChanged():
            return rollout_decisions.decide_plan_change(state, order, at)
        case RolloutPaused():
            return rollout_decisions.decide_pause(state)
        case RolloutResumed():
            return rollout_decisions.decide_resume(state)
    return rollout_decisions.decide_approve(state, "u_3")


def history_of(first: RolloutStarted, story: Sequence[tuple[int, Event]]) -> list[Recorded]:
    """Returns the events of a rollout: those of the story that the rules permit."""
    events = [Recorded(0, 0, "rollout/r", "k", "user/u_1", first)]
    state, now_ms = rollout.started(events[0]), 0
    for seconds, order in story:
        now_ms += seconds * STEP_MS
        try:
            event = decided(state, order, PlanTime(now_ms))
        except Refused:
            continue
        events.append(Recorded(len(events), now_ms, "rollout/r", "k", "user/u_1", event))
        state = rollout.evolve(state, events[-1])
    return events


def reached(state: RolloutState, now_ms: int) -> int:
    """Returns how much a rollout has reached so far; one that offered nothing reached nothing."""
    return rollout.reach_at(state, PlanTime(now_ms)) if rollout.has_offered(state, now_ms) else 0


@given(phases=plans(), approvals=st.sampled_from((None, 1)), story=stories)
def test_the_reached_share_only_grows_whatever_plan_follows(
    phases: tuple[PlanPhase, ...], approvals: int | None, story: list[tuple[int, Order]]
) -> None:
    first = RolloutStarted(
        "1.0.0", "m", phases[0].reach, plan=phases, approvals=approvals, started_by="u_1"
    )
    events = history_of(first, story)
    state, most = rollout.started(events[0]), 0
    for now_ms in range(0, 30 * STEP_MS, STEP_MS // 2):
        for each in [each for each in events[1:] if each.recorded_at_ms == now_ms]:
            state = rollout.evolve(state, each)
            assert reached(state, now_ms) >= most
        most = max(most, reached(state, now_ms))
        assert reached(state, now_ms) == most


@given(phases_=plans(), approvals=st.sampled_from((None, 1)), story=stories)
def test_each_phase_of_a_rollout_in_any_state_has_its_forecast(
    phases_: tuple[PlanPhase, ...], approvals: int | None, story: list[tuple[int, Order]]
) -> None:
    first = RolloutStarted(
        "1.0.0", "m", phases_[0].reach, plan=phases_, approvals=approvals, started_by="u_1"
    )
    events = history_of(first, story)
    for count in range(1, len(events) + 1):
        at = PlanTime(events[count - 1].recorded_at_ms)
        state = phases.past(events[:count], at).state
        assert len(phases.forecast(state, at, Outlook())) == len(state.plan)


@given(phases_=plans(), story=stories)
def test_the_phases_that_began_stay_with_their_times(
    phases_: tuple[PlanPhase, ...], story: list[tuple[int, Order]]
) -> None:
    events = history_of(RolloutStarted("1.0.0", "m", phases_[0].reach, plan=phases_), story)
    shown: list[phases.PhaseTimes] = []
    for count in range(1, len(events) + 1):
        at = PlanTime(events[count - 1].recorded_at_ms)
        past = phases.past(events[:count], at)
        assert list(past.times[: len(shown)]) == shown
        shown = list(past.times)
        states = [each.state for each in phases.progress(past.state, at, past.times, Outlook())]
        assert states == sorted(states, key=("done", "current", "next").index)
        assert states.count("current") == past.state.is_approved
        assert [each.reach for each in past.state.plan] == sorted(
            each.reach for each in past.state.plan
        )


def test_a_rollout_has_at_most_a_hundred_phases_with_those_that_it_began() -> None:
    began = tuple(PlanPhase(number, after_s=1) for number in range(81))
    first = RolloutStarted("1.0.0", "m", 0, plan=(*began, PlanPhase(9_000)))
    state = rollout.started(Recorded(0, 0, "rollout/r", "k", "user/u_1", first))
    at = PlanTime(80 * STEP_MS)
    assert plan.ROLLOUT_PHASES_MAX == 100
    fitting = RolloutPlanChanged(tuple(PlanPhase(1_000 + n) for n in range(19)))
    assert rollout_decisions.decide_plan_change(state, fitting, at) == fitting
    longer = RolloutPlanChanged((*fitting.plan, PlanPhase(10_000)))
    with pytest.raises(Refused) as refused:
        rollout_decisions.decide_plan_change(state, longer, at)
    assert refused.value.code == "too_many_phases"
    replanned = rollout.evolve(state, Recorded(1, at.now_ms, "rollout/r", "l", "u", fitting))
    assert len(replanned.plan) == 100


def test_a_state_began_with_the_event_or_the_time_that_began_it() -> None:
    first = RolloutStarted(
        *("1.0.0", "m", 0), plan=(PlanPhase(10_000),), approvals=2, start_at=time_text(9_000)
    )
    state = rollout.started(Recorded(0, 0, "rollout/r", "k", "user/u_1", first))
    since = [(rollout.state_at(state, 500), rollout.state_since_ms(state, 500))]
    story: list[tuple[int, Event]] = [
        (1_000, RolloutApproved(by="u_2")),
        (2_000, RolloutApproved(by="u_3")),
        (20_000, RolloutPlanChanged((PlanPhase(10_000),), approvals=1)),
        (30_000, RolloutPlanChanged((PlanPhase(10_000),))),
        (40_000, RolloutPaused()),
    ]
    for position, (at_ms, event) in enumerate(story, start=1):
        state = rollout.evolve(
            state, Recorded(position, at_ms, "rollout/r", f"k{position}", "user/u_1", event)
        )
        since.append((rollout.state_at(state, at_ms), rollout.state_since_ms(state, at_ms)))
        if at_ms == 2_000:
            since.append((rollout.state_at(state, 9_500), rollout.state_since_ms(state, 9_500)))
    assert since == [
        ("waiting", 0),
        ("waiting", 0),
        ("scheduled", 2_000),
        ("running", 9_000),
        ("waiting", 20_000),
        ("running", 30_000),
        ("paused", 40_000),
    ]

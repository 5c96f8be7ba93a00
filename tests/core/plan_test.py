"""Tests that the phase of a plan follows from events and the clock alone, against a plain model
that moves in single seconds."""

from hypothesis import given
from hypothesis import strategies as st

from firmtrail.events.steering import PlanPhase
from firmtrail.rules import plan
from firmtrail.rules.plan import HaltedTime, PlanClock

START_MS = 1_000_000


def second(n: int) -> int:
    return START_MS + n * 1000


@st.composite
def plans(draw: st.DrawFn) -> tuple[PlanPhase, ...]:
    kinds = st.sampled_from(("timed", "timed", "conditional", "both", "manual"))
    found = []
    for n in range(draw(st.integers(1, 5))):
        kind, seconds = draw(kinds), draw(st.integers(0, 6))
        after_s = seconds if kind in {"timed", "both"} else None
        reports = 1 if kind in {"conditional", "both"} else None
        found.append(PlanPhase((n + 1) * 1000, after_s, 100 if reports else None, reports))
    return tuple(found)


@st.composite
def halts(draw: st.DrawFn) -> tuple[HaltedTime, ...]:
    ends = sorted(draw(st.sets(st.integers(0, 40), max_size=6)))
    pairs = [HaltedTime(second(a), second(b)) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    is_open = len(ends) % 2 == 1
    return (*pairs, HaltedTime(second(ends[-1]))) if is_open else tuple(pairs)


def begins_halted(found: tuple[HaltedTime, ...], n: int) -> bool:
    """Returns whether the project was halted before second `n` begins, and still is."""
    return any(
        each.begin_ms < second(n) and (each.end_ms is None or second(n) < each.end_ms)
        for each in found
    )


def is_halted(found: tuple[HaltedTime, ...], n: int) -> bool:
    """Returns whether the project is halted during second `n`."""
    return any(
        each.begin_ms <= second(n) and (each.end_ms is None or second(n) < each.end_ms)
        for each in found
    )


def model(
    phases: tuple[PlanPhase, ...], stopped: tuple[HaltedTime, ...], met: set[int], end: int
) -> int:
    """Returns the phase at second `end`. `met` are the phases whose condition is met."""
    phase, spent = 0, 0
    for n in range(end + 1):
        while phase < len(phases) - 1 and not begins_halted(stopped, n):
            of = phases[phase]
            is_manual = of.after_s is None and of.min_reports is None
            if is_manual or (of.min_reports is not None and phase not in met):
                break
            if spent < (of.after_s or 0):
                break
            phase, spent = phase + 1, 0
        spent += 0 if is_halted(stopped, n) else 1
    return phase


@given(phases=plans(), stopped=halts(), end=st.integers(0, 60))
def test_the_phase_is_that_of_a_clock_that_ticks(
    phases: tuple[PlanPhase, ...], stopped: tuple[HaltedTime, ...], end: int
) -> None:
    found = plan.at(phases, plan.begun(0, START_MS), stopped, second(end))
    assert found.phase == model(phases, stopped, set(), end)


@given(phases=plans(), stopped=halts(), looks=st.lists(st.integers(0, 60), max_size=8).map(sorted))
def test_looking_in_between_changes_nothing(
    phases: tuple[PlanPhase, ...], stopped: tuple[HaltedTime, ...], looks: list[int]
) -> None:
    looked = direct = plan.begun(0, START_MS)
    for each in looks:
        looked = plan.at(phases, looked, stopped, second(each))
    if looks:
        direct = plan.at(phases, direct, stopped, second(looks[-1]))
    assert looked == direct


@given(phases=plans(), stopped=halts(), end=st.integers(0, 60), more=st.integers(0, 60))
def test_the_reached_share_only_grows(
    phases: tuple[PlanPhase, ...], stopped: tuple[HaltedTime, ...], end: int, more: int
) -> None:
    early = plan.at(phases, plan.begun(0, START_MS), stopped, second(end))
    late = plan.at(phases, plan.begun(0, START_MS), stopped, second(end + more))
    assert phases[early.phase].reach <= phases[late.phase].reach


@given(stopped=halts(), begin=st.integers(0, 40), seconds=st.integers(0, 40))
def test_time_counts_only_outside_halts(
    stopped: tuple[HaltedTime, ...], begin: int, seconds: int
) -> None:
    end_ms = plan.time_after(stopped, second(begin), seconds * 1000)
    if end_ms is None:
        assert stopped[-1].end_ms is None
        return
    assert plan.counted_ms(stopped, second(begin), end_ms) == seconds * 1000
    assert not begins_halted(stopped, (end_ms - START_MS) // 1000)


@given(phases=plans(), end=st.integers(0, 60), more=st.integers(0, 60))
def test_a_halt_takes_no_phase_back(phases: tuple[PlanPhase, ...], end: int, more: int) -> None:
    before = plan.at(phases, plan.begun(0, START_MS), (), second(end))
    halted = (HaltedTime(second(end)),)
    after = plan.at(phases, plan.begun(0, START_MS), halted, second(end + more))
    assert (after.phase, after.began_at_ms) == (before.phase, before.began_at_ms)


def test_a_condition_needs_its_reports_and_its_share() -> None:
    phase = PlanPhase(100, None, 95, 20)
    assert not plan.is_met(phase, 19, 0)
    assert plan.is_met(phase, 19, 1)
    assert not plan.is_met(phase, 18, 2)
    assert not plan.is_met(PlanPhase(100, 60), 20, 0)


def test_a_phase_waits_for_its_condition_and_for_its_time() -> None:
    phases = (PlanPhase(100, 60, 95, 20), PlanPhase(10_000))
    clock = plan.begun(0, START_MS)
    assert plan.at(phases, clock, (), second(600)).phase == 0
    met = plan.at(phases, clock, (), second(30))._replace(is_met=True)
    assert plan.at(phases, met, (), second(59)).phase == 0
    assert plan.at(phases, met, (), second(60)) == PlanClock(1, second(60), 0, second(60))
    late = plan.at(phases, clock, (), second(90))._replace(is_met=True)
    assert plan.at(phases, late, (), second(90)).began_at_ms == second(90)

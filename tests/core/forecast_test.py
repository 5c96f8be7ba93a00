"""Tests the forecast of a plan with windows against a model that walks minute by minute."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import SettingsChanged
from firmtrail.events.steering import PlanPhase, RolloutStarted, Window
from firmtrail.events.times import time_ms
from firmtrail.rules import phases, rollout, settings
from firmtrail.rules.control import Control
from firmtrail.rules.outlook import Outlook, windows_of
from firmtrail.rules.phases import ExpectedPhase
from firmtrail.rules.plan import HaltedTime
from firmtrail.rules.rollout import PlanTime, RolloutState

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE_MS = 60_000
BEFORE = 2 * 24 * 60
WALKED = 12 * 24 * 60
"""The minutes that the model walks: longer than any plan here takes."""

SKIPPED = time_ms("2026-03-28T20:00:00Z")
"""Some hours before clocks in Berlin skip from 02:00 to 03:00."""
REPEATED = time_ms("2026-10-24T20:00:00Z")
"""Some hours before clocks in Berlin go back from 03:00 to 02:00."""


@cache
def walls(begin_ms: int) -> list[datetime]:
    """Returns what a clock on a wall in Berlin shows in each minute, from two days before."""
    first = begin_ms // MINUTE_MS - BEFORE
    return [
        datetime.fromtimestamp(minute * 60, UTC).astimezone(BERLIN).replace(tzinfo=None)
        for minute in range(first, first + BEFORE + WALKED)
    ]


def open_minutes(opens: time, length: int, begin_ms: int, later: int) -> list[bool]:
    """Returns for each minute whether a window is open that opens daily: when the clock first shows
    `opens` or a later time of that day."""
    shown = walls(begin_ms)
    opened: dict[date, int] = {}
    for minute, wall in enumerate(shown):
        if (wall.hour, wall.minute) >= (opens.hour, opens.minute):
            opened.setdefault(wall.date(), minute)
    found = [False] * len(shown)
    for minute in opened.values():
        found[minute : minute + length] = [True] * min(length, len(shown) - minute)
    return found[BEFORE + later :]


def walked(plan: Sequence[PlanPhase], opened: Sequence[bool], begin_ms: int) -> list[int]:
    """Returns when each phase begins: all devices call each minute, and install immediately."""
    begins, is_met = [begin_ms], False
    for minute, is_open in enumerate(opened):
        now_ms = begin_ms + minute * MINUTE_MS
        while len(begins) < len(plan):
            phase = plan[len(begins) - 1]
            is_met = is_met or is_open or phase.min_reports is None
            waits = phase.min_reports is None and phase.after_s is None
            if waits or not is_met or now_ms < begins[-1] + (phase.after_s or 0) * 1000:
                break
            begins.append(now_ms)
            is_met = False
    return begins


def started(plan: Sequence[PlanPhase], window: Window | None, at_ms: int) -> RolloutState:
    event = RolloutStarted("2.0.0", "m", plan[0].reach, plan=tuple(plan), window=window)
    return rollout.started(Recorded(0, at_ms, "rollout/r", "e", "user/u", event))


def phase(reach: int, minutes: int | None, *, waits: bool) -> PlanPhase:
    after_s = None if minutes is None else minutes * 60
    return PlanPhase(reach, after_s, 90 if waits else None, 1 if waits else None)


LENGTHS = st.sampled_from((None, 0, 1, 59, 60, 90, 300, 26 * 60))
PLANS = st.lists(st.tuples(LENGTHS, st.booleans()), min_size=1, max_size=5).map(
    lambda members: [
        phase(n + 1, minutes, waits=waits) for n, (minutes, waits) in enumerate(members)
    ]
)


@given(
    plan=PLANS,
    hour=st.integers(0, 23),
    minute=st.sampled_from((0, 30)),
    length=st.sampled_from((1, 30, 60, 180, 25 * 60)),
    begin=st.sampled_from((SKIPPED, REPEATED)),
    later=st.integers(0, 8 * 60),
)
@example(
    plan=[phase(1, 60, waits=True), phase(2, 26 * 60, waits=True), phase(3, None, waits=False)],
    hour=2,
    minute=30,
    length=30,
    begin=SKIPPED,
    later=0,
)
@example(
    plan=[phase(1, 0, waits=True), phase(2, 60, waits=True), phase(3, None, waits=False)],
    hour=2,
    minute=30,
    length=30,
    begin=REPEATED,
    later=330,
)
def test_a_forecast_equals_what_a_model_sees_minute_by_minute(
    plan: list[PlanPhase], hour: int, minute: int, length: int, begin: int, later: int
) -> None:
    begin_ms = begin + later * MINUTE_MS
    window = Window(f"{minute} {hour} * * *", length * 60, "Europe/Berlin")
    forecast = phases.forecast(
        started(plan, window, begin_ms), PlanTime(begin_ms), Outlook((window,))
    )
    begins = walked(plan, open_minutes(time(hour, minute), length, begin, later), begin_ms)
    known = [each.begins_at_ms for each in forecast if each.begins_at_ms is not None]
    assert known == begins
    assert [each.ends_at_ms for each in forecast[: len(begins) - 1]] == begins[1:]


NIGHT = Window("0 2 * * *", 3600, "UTC")
NOON = Window("0 12 * * *", 3600, "UTC")
MORNING = time_ms("2026-05-05T08:00:00Z")
WAITING = [phase(1, 60, waits=True), phase(2, None, waits=False)]


def first_end(control: Control, state: RolloutState, halts: tuple[HaltedTime, ...] = ()) -> int:
    """Returns when the first phase is expected to end."""
    ahead = Outlook(windows_of(control, state))
    end_ms = phases.forecast(state, PlanTime(MORNING, halts), ahead)[0].ends_at_ms
    assert end_ms is not None
    return end_ms


def controlled(change: SettingsChanged) -> Control:
    return Control(settings=settings.evolve(settings.INITIAL, change))


@pytest.mark.parametrize(
    ("change", "cohort", "end"),
    [
        (SettingsChanged(window=NIGHT), None, "2026-05-06T02:00:00Z"),
        (SettingsChanged(window=NIGHT, model_windows={"m": NOON}), None, "2026-05-05T12:00:00Z"),
        (SettingsChanged(window=NIGHT, cohort_windows={"c": NOON}), "c", "2026-05-05T12:00:00Z"),
        (SettingsChanged(window=NIGHT, cohort_windows={"c": NOON}), "d", "2026-05-06T02:00:00Z"),
        (SettingsChanged(window=NIGHT, cohort_windows={"c": NOON}), None, "2026-05-05T12:00:00Z"),
        (SettingsChanged(cohort_windows={"c": NOON}), None, "2026-05-05T09:00:00Z"),
        (SettingsChanged(window=Window("0 2 * * *", 60, "device")), None, "2026-05-05T09:00:00Z"),
    ],
)
def test_the_windows_of_the_settings_count_for_a_rollout_that_names_none(
    change: SettingsChanged, cohort: str | None, end: str
) -> None:
    event = RolloutStarted("2.0.0", "m", 1, cohort, plan=tuple(WAITING))
    state = rollout.started(Recorded(0, MORNING, "rollout/r", "e", "user/u", event))
    assert first_end(controlled(change), state) == time_ms(end)


def test_an_opening_while_the_project_is_halted_offers_nothing() -> None:
    state = started(WAITING, NOON, MORNING)
    halted = HaltedTime(time_ms("2026-05-05T11:00:00Z"), time_ms("2026-05-05T14:00:00Z"))
    assert first_end(Control(), state, (halted,)) == time_ms("2026-05-06T12:00:00Z")


def test_a_window_that_was_open_in_the_present_phase_is_not_waited_for_again() -> None:
    """Its offers stay valid, so a report may meet the condition although the window is closed."""
    state = started(WAITING, NOON, MORNING)
    now_ms = time_ms("2026-05-05T18:00:00Z")
    [first, _] = phases.forecast(state, PlanTime(now_ms), Outlook((NOON,)))
    assert first == ExpectedPhase(MORNING, now_ms)
    [shown, _] = phases.progress(state, PlanTime(now_ms), (), Outlook((NOON,)))
    assert shown.earliest_end_ms == now_ms


def test_a_window_does_not_delay_a_phase_that_waits_for_time_alone() -> None:
    plan = [phase(1, 60, waits=False), phase(2, None, waits=False)]
    assert first_end(Control(), started(plan, NOON, MORNING)) == time_ms("2026-05-05T09:00:00Z")

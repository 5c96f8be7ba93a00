"""Tests the order of a device's reports, and the current version that follows from it."""

from typing import NamedTuple

import pytest

from firmtrail.events import times
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import FirmwareRunning, ReportEvent, Status, UpdateFailed
from firmtrail.events.times import time_text
from firmtrail.projections.fold import Fold
from firmtrail.rules.device import DeviceState
from firmtrail.rules.device_order import AHEAD_MS_MAX, SEQ_PLACE, placed
from tests.fleet import DAY_MS, NOON_MS

UNSET_MS = times.time_ms("2014-12-31T23:59:59.999Z")
EARLIEST_MS = times.time_ms("2015-01-01T00:00:00Z")


class Sent(NamedTuple):
    """Holds a report as these tables write it; `at_ms` counts from the day's noon."""

    version: str
    seq: int | None = None
    at_ms: int | None = None
    status: Status = "running"


def recorded(position: int, sent: Sent) -> Recorded:
    """Returns the reports as events, each recorded a day after the one before."""
    occurred_at = None if sent.at_ms is None else time_text(NOON_MS + sent.at_ms)
    event: ReportEvent
    if sent.status == "failed":
        event = UpdateFailed(sent.version, sent.seq, occurred_at, status="failed")
    else:
        event = FirmwareRunning(sent.version, sent.seq, occurred_at)
    at_ms = NOON_MS + position * DAY_MS
    return Recorded(position, at_ms, "device/d1", f"s.{position}", "device/d1", event)


def after(*reports: Sent) -> DeviceState:
    fold = Fold()
    fold.states["d1"] = DeviceState("d1")
    for position, sent in enumerate(reports):
        fold.apply(recorded(position, sent))
    return fold.states["d1"]


@pytest.mark.parametrize(
    ("claimed_ms", "time_ms", "clock"),
    [
        (None, NOON_MS, None),
        (NOON_MS - DAY_MS, NOON_MS - DAY_MS, None),
        (UNSET_MS, NOON_MS, "unset"),
        (EARLIEST_MS, EARLIEST_MS, None),
        (NOON_MS + AHEAD_MS_MAX, NOON_MS + AHEAD_MS_MAX, None),
        (NOON_MS + AHEAD_MS_MAX + 1, NOON_MS, "ahead"),
    ],
)
def test_a_clock_is_believed_from_2015_to_five_minutes_ahead(
    claimed_ms: int | None, time_ms: int, clock: str | None
) -> None:
    claimed = None if claimed_ms is None else claimed_ms - NOON_MS
    at = placed(DeviceState("d1"), recorded(0, Sent("1.0.0", at_ms=claimed)))
    assert (at.place, at.time_ms, at.occurred_at_ms, at.clock) == (
        time_ms,
        time_ms,
        claimed_ms,
        clock,
    )


@pytest.mark.parametrize("seq", [0, 1, (1 << 53) - 1])
def test_a_seq_is_the_place_and_the_clock_still_the_time(seq: int) -> None:
    at = placed(DeviceState("d1"), recorded(1, Sent("1.0.0", seq, at_ms=0)))
    assert (at.place, at.time_ms) == (SEQ_PLACE + seq, NOON_MS)


def test_every_time_comes_before_seq_0() -> None:
    assert times.time_ms("9999-12-31T23:59:59.999Z") < SEQ_PLACE


A, B, C = "1.0.0", "1.1.0", "1.2.0"


@pytest.mark.parametrize(
    ("case", "reports", "version", "previous"),
    [
        ("one", [Sent(A)], A, None),
        ("as recorded", [Sent(A), Sent(B)], B, A),
        ("by time", [Sent(B, at_ms=20), Sent(A, at_ms=10)], B, A),
        ("a time before all that was recorded without", [Sent(B), Sent(A, at_ms=10)], A, B),
        ("by seq", [Sent(B, 2), Sent(A, 1)], B, A),
        ("seq over time", [Sent(B, 2, at_ms=10), Sent(A, 1, at_ms=20)], B, A),
        ("all without seq first", [Sent(A, at_ms=DAY_MS), Sent(B, 0, at_ms=10)], B, A),
        ("without seq: the highest so far", [Sent(A, 5), Sent(B), Sent(C, 4)], B, A),
        ("without seq, with an old time", [Sent(A, 5), Sent(B, at_ms=10)], B, A),
        ("one place twice: as recorded", [Sent(A, at_ms=10), Sent(B, at_ms=10)], B, A),
        ("a higher seq after one without", [Sent(A, 5), Sent(B), Sent(C, 6)], C, B),
        ("the seq of one without, again lower", [Sent(A, 5), Sent(B), Sent(A, 3)], B, A),
    ],
)
def test_reports_order_by_their_place(
    case: str, reports: list[Sent], version: str, previous: str | None
) -> None:
    state = after(*reports)
    assert (state.version, state.previous_version) == (version, previous)


@pytest.mark.parametrize(
    ("case", "reports", "version", "previous", "first_position"),
    [
        ("a run is kept", [Sent(A, 1), Sent(A, 2)], A, None, 0),
        ("a run grows to the front", [Sent(A, 2), Sent(A, 1)], A, None, 1),
        ("continues its predecessor", [Sent(A, 1), Sent(B, 5), Sent(B, 3)], B, A, 2),
        ("does not grow over another", [Sent(B, 5), Sent(A, 3), Sent(B, 1)], B, A, 0),
        ("another comes right before", [Sent(A, 1), Sent(C, 5), Sent(B, 3)], C, B, 1),
        ("another splits it", [Sent(A, 1), Sent(A, 5), Sent(B, 3)], A, B, 1),
        ("split at its second", [Sent(A, 1), Sent(A, 3), Sent(A, 5), Sent(B, 4)], A, B, 2),
        ("split, then merged", [Sent(A, 1), Sent(A, 9), Sent(B, 5), Sent(A, 7)], A, B, 3),
        ("farther back", [Sent(B, 5), Sent(C, 9), Sent(A, 1)], C, B, 1),
        ("inside, of the same version", [Sent(A, 1), Sent(A, 9), Sent(A, 5)], A, None, 0),
        ("joins the two before", [Sent(B, 1), Sent(A, 9), Sent(B, 5)], A, B, 1),
    ],
)
def test_a_late_report_splits_and_merges_runs(
    case: str, reports: list[Sent], version: str, previous: str | None, first_position: int
) -> None:
    state = after(*reports)
    assert (state.version, state.previous_version) == (version, previous)
    assert state.run_position == first_position
    assert state.since_ms == NOON_MS + first_position * DAY_MS


@pytest.mark.parametrize(
    ("case", "reports", "late"),
    [
        ("the first", [Sent(A, 1)], False),
        ("in order", [Sent(A, 1), Sent(A, 2)], False),
        ("of the same place", [Sent(A, at_ms=10), Sent(B, at_ms=10)], False),
        ("of an earlier place", [Sent(A, 2), Sent(A, 1)], True),
        ("after one in progress", [Sent(A, 2, status="failed"), Sent(A, 1)], True),
        ("the first seq, of an old time", [Sent(A), Sent(A, 1, at_ms=10)], False),
        ("without seq", [Sent(A, 2), Sent(A, at_ms=10)], False),
    ],
)
def test_a_report_is_late_after_one_with_a_later_place(
    case: str, reports: list[Sent], late: bool
) -> None:
    *before, last = reports
    assert placed(after(*before), recorded(len(before), last)).late == late


def test_the_last_report_gives_status_and_clock_a_running_one_the_version() -> None:
    state = after(Sent(A, 1), Sent(B, 5, at_ms=-5_000 * DAY_MS, status="failed"), Sent(C, 3))
    assert (state.version, state.previous_version) == (C, A)
    assert (state.status, state.clock, state.last_version, state.last_position) == (
        "failed",
        "unset",
        B,
        1,
    )
    assert state.recorded_position == 2

"""Puts the reports of a device in order. Pure.

Reports may arrive in any order, so each device's reports have an order of their own, by (place,
position):

- a report's place is its `seq`, once the device has sent one (a report without a seq takes the
  highest place so far; all reports from before the first seq come first),
- else its `occurred_at` if that can be believed, else the time of recording.

A restored device, or one with new hardware, begins a new counting, and its seq begins again. All
places of a new counting are later than those of earlier ones.
"""

from firmtrail.events import times
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import REPORTS
from firmtrail.rules.device import INSTALLING, LAST_PLACE, MOVING, ClockFault, DeviceState, Placed
from firmtrail.rules.report import EARLIEST_BELIEVED_MS, ReportCommand

AHEAD_MS_MAX = 5 * 60 * 1000
"""How far a device's clock may be ahead of the log's clock and still be believed."""

SEQ_PLACE = 1 << 48
"""The place of seq 0 in a counting: later than every place that is a time before the year 10000."""


def placed(state: DeviceState, report: Recorded, offer_place: int = -1) -> Placed:
    """Returns the report with its place in the order of the device, whose state before it is
    `state`.

    `offer_place` is the place of the newest offer of the report's version, -1 if there is none.
    """
    event = report.event
    assert isinstance(event, REPORTS)
    occurred_at_ms = times.time_ms(event.occurred_at) if event.occurred_at else None
    time_ms, clock = _time(occurred_at_ms, report.recorded_at_ms)
    place = place_of(state, event.seq, time_ms)
    if (
        clock is None
        and place < state.last_place
        and _is_behind(state, report, time_ms, offer_place)
    ):
        time_ms, clock = report.recorded_at_ms, "behind"
        place = max(state.last_place, place_of(state, None, time_ms))
    late = place < state.last_place
    return Placed(place, report.position, time_ms, occurred_at_ms, clock, late)


def place_of(state: DeviceState, seq: int | None, time_ms: int) -> int:
    """Returns the place of a report of this seq and time."""
    if seq is not None:
        place = state.counting_place + SEQ_PLACE + seq
    elif last_seq(state) is not None:
        return state.last_place
    else:
        place = state.counting_place + time_ms
    return min(place, LAST_PLACE)


def last_seq(state: DeviceState) -> int | None:
    """Returns the highest seq of the device's present counting; None if it sent none."""
    seq = state.last_place - state.counting_place - SEQ_PLACE
    return seq if seq >= 0 else None


def _is_behind(state: DeviceState, report: Recorded, time_ms: int, offer_place: int) -> bool:
    """Returns whether the claimed time of an installed version cannot be true: the last report says
    that the device installs this very version, yet the time is before the device's registration, or
    before the place of the offer, which the device's order has passed.

    The last report is the last one in the device's order (or one with a clock as wrong), or, as its
    own time may be wrong too, the one recorded last. An update of long ago, whose reports arrive
    late, is believed: its reports claim more time between them than between their recordings.
    """
    event = report.event
    assert isinstance(event, REPORTS)
    if event.status not in MOVING or event.seq is not None or event.occurred_at is None:
        return False
    is_last = state.status in INSTALLING or state.clock == "behind"
    if not (is_last and event.version == state.last_version) and not (
        event.version == state.installing_version and _is_as_quick(state, report, time_ms)
    ):
        return False
    bounds = (state.counting_place + state.registered_at_ms, offer_place)
    place = place_of(state, None, time_ms)
    return any(place < bound <= state.last_place for bound in bounds)


def _is_as_quick(state: DeviceState, report: Recorded, time_ms: int) -> bool:
    """Returns whether the device claims no more time since its last report than passed between the
    recordings; claims may be cut to the second. Reports recorded within a second come from a queue:
    of these, only a claim that goes back cannot be true."""
    if state.installing_ms is None or state.recorded_at_ms is None:
        return False
    claimed_ms = time_ms - state.installing_ms
    passed_ms = report.recorded_at_ms - state.recorded_at_ms
    return claimed_ms < (passed_ms + 1000 if passed_ms >= 1000 else 0)


def claimed_place(state: DeviceState, report: ReportCommand, now_ms: int) -> int:
    """Returns the place that a report recorded at `now_ms` claims: by its seq if it has one, else
    by its time, as in a counting that is by the device's clock."""
    if report.seq is not None:
        return place_of(state, report.seq, now_ms)
    time_ms, _ = _time(report.occurred_at_ms, now_ms)
    return min(state.counting_place + time_ms, LAST_PLACE)


def _time(occurred_at_ms: int | None, recorded_at_ms: int) -> tuple[int, ClockFault | None]:
    """Returns a report's time, and the fault of the device's clock if that is not believed."""
    if occurred_at_ms is None:
        return recorded_at_ms, None
    if occurred_at_ms < EARLIEST_BELIEVED_MS:
        return recorded_at_ms, "unset"
    if occurred_at_ms > recorded_at_ms + AHEAD_MS_MAX:
        return recorded_at_ms, "ahead"
    return occurred_at_ms, None

"""Tests which claimed times of an installed version cannot be true, and which are believed."""

import pytest
from msgspec.structs import replace

from firmtrail.events.event import Recorded
from firmtrail.events.fleet import FirmwareInstalled
from firmtrail.events.times import time_text
from firmtrail.rules.device import ClockFault, DeviceState
from firmtrail.rules.device_order import SEQ_PLACE, claimed_place, placed
from firmtrail.rules.report import ReportCommand
from tests.fleet import NOON_MS

MINUTE_MS = 60_000
REGISTERED_MS = NOON_MS
INSTALLING_MS = NOON_MS + MINUTE_MS
RECORDED_MS = NOON_MS + 3 * MINUTE_MS

AT_WORK = DeviceState(
    "d1",
    last_place=INSTALLING_MS,
    last_version="1.1.0",
    status="installing",
    recorded_at_ms=INSTALLING_MS,
    registered_at_ms=REGISTERED_MS,
)
"""A device that installs 1.1.0 by its last report."""

ELSEWHERE = replace(
    AT_WORK,
    last_version="1.2.0",
    status="running",
    installing_version="1.1.0",
    installing_ms=REGISTERED_MS - 30 * MINUTE_MS,
)
"""A device whose report recorded last says that it installs 1.1.0, and comes before others."""

TOO_EARLY, OFFERED_MS = REGISTERED_MS - MINUTE_MS, NOON_MS + MINUTE_MS // 2


@pytest.mark.parametrize(
    ("case", "state", "version", "claimed_ms", "clock"),
    [
        ("before the registration", AT_WORK, "1.1.0", TOO_EARLY, "behind"),
        ("before the offer", AT_WORK, "1.1.0", OFFERED_MS - 1, "behind"),
        ("with the offer", AT_WORK, "1.1.0", OFFERED_MS, None),
        ("another version", AT_WORK, "1.0.0", TOO_EARLY, None),
        ("not at work", replace(AT_WORK, status="running"), "1.1.0", TOO_EARLY, None),
        ("again", replace(AT_WORK, status="running", clock="behind"), "1.1.0", TOO_EARLY, "behind"),
        ("as slow as was recorded", ELSEWHERE, "1.1.0", TOO_EARLY, None),
        (
            "quicker than was recorded",
            replace(ELSEWHERE, installing_ms=TOO_EARLY - MINUTE_MS),
            "1.1.0",
            TOO_EARLY,
            "behind",
        ),
        (
            "quick, and another version",
            replace(ELSEWHERE, installing_ms=TOO_EARLY - MINUTE_MS),
            "1.0.0",
            TOO_EARLY,
            None,
        ),
    ],
)
def test_a_time_that_cannot_be_true_is_not_believed(
    case: str, state: DeviceState, version: str, claimed_ms: int, clock: ClockFault | None
) -> None:
    event = FirmwareInstalled(version, occurred_at=time_text(claimed_ms))
    report = Recorded(9, RECORDED_MS, "device/d1", "s.9", "device/d1", event)
    at = placed(state, report, OFFERED_MS)
    expected = claimed_ms if clock is None else RECORDED_MS
    assert (at.clock, at.time_ms, at.place) == (clock, expected, expected)


def test_a_report_claims_a_place_by_its_seq_and_else_by_its_time() -> None:
    state = DeviceState("d1", counting_place=1_000, last_place=1_000 + SEQ_PLACE + 5)
    by_seq = ReportCommand("d1", "1.1.0", "running", "x", seq=3, occurred_at_ms=NOON_MS)
    assert claimed_place(state, by_seq, RECORDED_MS) == 1_000 + SEQ_PLACE + 3
    by_time = replace(by_seq, seq=None)
    assert claimed_place(state, by_time, RECORDED_MS) == 1_000 + NOON_MS
    assert claimed_place(state, replace(by_time, occurred_at_ms=None), NOON_MS) == 1_000 + NOON_MS

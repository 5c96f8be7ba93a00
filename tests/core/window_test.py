"""Tests when maintenance windows open, also where a clock skips or repeats an hour."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from firmtrail.events.steering import Window
from firmtrail.events.times import time_ms, time_text
from firmtrail.rules import window

BERLIN = "Europe/Berlin"
NIGHT = Window("0 2 * * *", 3 * 3600, BERLIN)


def openings(found: Window, after: str, count: int) -> list[str]:
    """Returns the next openings in the window's own zone."""
    at_ms, texts = time_ms(after), []
    for _ in range(count):
        opening = window.next_opening(found, found.timezone, at_ms)
        assert opening is not None
        at_ms = opening
        local = datetime.fromisoformat(time_text(at_ms)).astimezone(ZoneInfo(found.timezone))
        texts.append(local.isoformat(timespec="minutes"))
    return texts


def test_an_opening_in_a_skipped_hour_comes_after_it() -> None:
    assert openings(NIGHT, "2025-03-28T12:00:00Z", 3) == [
        "2025-03-29T02:00+01:00",
        "2025-03-30T03:00+02:00",
        "2025-03-31T02:00+02:00",
    ]


def test_an_opening_in_a_repeated_hour_comes_once() -> None:
    assert openings(NIGHT, "2025-10-25T12:00:00Z", 2) == [
        "2025-10-26T02:00+02:00",
        "2025-10-27T02:00+01:00",
    ]


def test_an_opening_in_a_repeated_hour_is_not_found_again_while_that_hour_repeats() -> None:
    short = Window("30 2 * * *", 5 * 60, BERLIN)
    first_ms = time_ms("2026-10-25T00:30:00Z")
    for minutes in range(5, 24 * 60):
        now_ms = first_ms + minutes * 60_000
        assert not window.is_open(short, BERLIN, now_ms), time_text(now_ms)
        assert window.next_opening(short, BERLIN, now_ms) == time_ms("2026-10-26T01:30:00Z")


def test_a_window_lasts_its_seconds_whatever_the_clock_does() -> None:
    begin_ms = time_ms("2025-10-26T00:00:00Z")
    assert not window.is_open(NIGHT, BERLIN, begin_ms - 1)
    assert window.is_open(NIGHT, BERLIN, begin_ms)
    assert window.is_open(NIGHT, BERLIN, begin_ms + 3 * 3_600_000 - 1)
    assert not window.is_open(NIGHT, BERLIN, begin_ms + 3 * 3_600_000)


def test_weekdays_keep_a_weekend_closed() -> None:
    workdays = Window("0 2 * * MON-FRI", 14_400, BERLIN)
    assert openings(workdays, "2025-06-06T12:00:00Z", 2) == [
        "2025-06-09T02:00+02:00",
        "2025-06-10T02:00+02:00",
    ]


def test_the_zone_of_a_device_counts_where_the_window_asks_for_it() -> None:
    own = Window("0 2 * * *", 3600, "device")
    assert window.zone_of(own, "Asia/Tokyo") == "Asia/Tokyo"
    assert window.zone_of(own, None) == "UTC"
    assert window.zone_of(own, "../../etc/passwd") == "UTC"
    assert window.zone_of(NIGHT, "Asia/Tokyo") == BERLIN


@pytest.mark.parametrize(
    ("cron", "zone", "member"),
    [
        ("0 2 * *", "UTC", "cron"),
        ("0 0 2 * * *", "UTC", "cron"),
        ("61 2 * * *", "UTC", "cron"),
        ("0 2 31 2 *", "UTC", "cron"),
        ("@daily", "UTC", "cron"),
        ("0 2 * * *", "Europe/Atlantis", "timezone"),
        ("0 2 * * *", "/etc/localtime", "timezone"),
        ("0 2 * * *", "", "timezone"),
    ],
)
def test_a_window_that_can_not_open_is_refused(cron: str, zone: str, member: str) -> None:
    fault = window.fault_of(Window(cron, 3600, zone))
    assert fault is not None
    assert fault[0] == member


def test_a_window_that_opens_on_leap_days_can_open() -> None:
    assert window.fault_of(Window("0 2 29 2 *", 3600, "UTC")) is None

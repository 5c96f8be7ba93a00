"""Tests the times at which a window is open, and the picture of its next openings."""

import re

from firmtrail.console import filters
from firmtrail.console.openings import LEFT, WIDTH, from_start, picture
from firmtrail.events.steering import Window
from firmtrail.events.times import time_ms, time_text
from firmtrail.rules import window

HOUR_MS = 3_600_000
NOW = time_ms("2025-03-28T12:00:00Z")


def open_times(found: Window, begin: str, end: str) -> list[tuple[str, str]]:
    times = window.open_times(found, found.timezone, time_ms(begin), time_ms(end))
    return [(time_text(first)[5:16], time_text(last)[5:16]) for first, last, _ in times]


def test_openings_that_overlap_are_one_time() -> None:
    often = Window("0,30 2 * * *", HOUR_MS // 1000, "UTC")
    assert open_times(often, "2025-03-01T00:00:00Z", "2025-03-03T00:00:00Z") == [
        ("03-01T02:00", "03-01T03:30"),
        ("03-02T02:00", "03-02T03:30"),
    ]


def test_a_time_that_is_open_already_began_before() -> None:
    night = Window("0 22 * * *", 4 * 3600, "UTC")
    assert open_times(night, "2025-03-02T01:00:00Z", "2025-03-02T03:00:00Z") == [
        ("03-01T22:00", "03-02T02:00")
    ]


def test_a_window_that_never_closes_is_cut_after_a_bounded_number_of_openings() -> None:
    always = Window("* * * * *", 60, "UTC")
    begin_ms, end_ms = time_ms("2025-03-01T00:00:00Z"), time_ms("2026-03-01T00:00:00Z")
    [found] = window.open_times(always, "UTC", begin_ms, end_ms)
    assert found == (begin_ms, begin_ms + window.OPENINGS_MAX * 60_000, True)


def test_a_time_is_cut_where_the_search_ends_only_if_it_lasts_longer() -> None:
    night = Window("0 22 * * *", 4 * 3600, "UTC")
    begin_ms, end_ms = time_ms("2025-03-01T00:00:00Z"), time_ms("2025-03-01T23:00:00Z")
    assert [each.is_cut for each in window.open_times(night, "UTC", begin_ms, end_ms)] == [
        False
    ] * 2
    hourly = Window("0 * * * *", 3600, "UTC")
    assert [each.is_cut for each in window.open_times(hourly, "UTC", begin_ms, end_ms)] == [True]


def test_a_window_that_opens_each_minute_for_a_week_is_drawn_to_the_end_of_the_picture() -> None:
    for cron, seconds in (("* * * * *", 3600), ("* * * * *", 7 * 86_400), ("*/10 * * * *", 600)):
        shown = picture(Window(cron, seconds, "Europe/Berlin"), NOW)
        assert [[part.width for part in day.parts] for day in shown.days] == [[WIDTH]] * 7
        [now] = shown.openings
        assert now.begins == "now"
        days = re.fullmatch(r"more than (\d+)\u202f?.*", now.lasts)
        assert days is not None
        assert int(days[1]) >= 7


def test_a_time_that_began_before_the_search_lasts_from_now_on() -> None:
    [now, *later] = picture(Window("* * * * 1-5", 60, "UTC"), NOW).openings
    assert now == ("now", filters.duration(12 * HOUR_MS))
    assert later[0] == ("Mon 31 Mar 00:00", filters.duration(5 * 24 * HOUR_MS))


def test_a_window_that_opens_often_is_drawn_on_every_day() -> None:
    shown = picture(Window("*/10 * * * *", 300, "UTC"), NOW)
    assert [len(day.parts) for day in shown.days] == [144] * 7
    assert [each.begins for each in shown.openings] == [
        f"Fri 28 Mar 12:{minute}" for minute in ("00", "10", "20", "30", "40")
    ]
    assert {each.lasts for each in shown.openings} == {filters.duration(300_000)}


def test_the_picture_has_a_row_for_each_day_in_the_zone_of_the_window() -> None:
    shown = picture(Window("0 2 * * *", 3 * 3600, "Europe/Berlin"), NOW)
    assert [day.words for day in shown.days][:3] == ["Fri 28 Mar", "Sat 29 Mar", "Sun 30 Mar"]
    assert [len(day.parts) for day in shown.days] == [1] * 7
    first, skipped = shown.days[0].parts[0], shown.days[2].parts[0]
    assert first.x == round(LEFT + WIDTH * 2 / 24, 1)
    assert skipped.x == round(LEFT + WIDTH * 2 / 23, 1), "this day has 23 hours"
    assert [each.begins for each in shown.openings][:2] == ["Sat 29 Mar 02:00", "Sun 30 Mar 03:00"]


def test_a_window_over_midnight_is_on_both_days() -> None:
    shown = picture(Window("0 23 * * 5", 2 * 3600, "UTC"), NOW)
    assert [len(day.parts) for day in shown.days] == [1, 1, 0, 0, 0, 0, 0]
    assert sum(part.width for day in shown.days for part in day.parts) == 2 * WIDTH / 24


def test_a_window_by_the_clock_of_devices_is_shown_in_utc_and_says_so() -> None:
    shown = picture(Window("0 2 * * *", 3600, "device"), NOW)
    assert (shown.zone, shown.is_of_devices) == ("UTC", True)


def test_a_rollout_that_starts_later_has_the_openings_from_its_start_on() -> None:
    daily, start_ms = Window("0 2 * * *", 3600, "Europe/Berlin"), time_ms("2025-04-02T12:00:00Z")
    later = from_start(daily, start_ms, NOW)
    assert (later.days[0].words, later.openings[0].begins) == ("Wed 2 Apr", "Thu 3 Apr 02:00")
    assert from_start(daily, start_ms, start_ms + 1).openings == later.openings
    assert from_start(daily, None, NOW) == picture(daily, NOW)
    always = Window("* * * * *", 60, "UTC")
    begins = [from_start(always, start_ms, now).openings[0].begins for now in (NOW, start_ms)]
    assert begins == ["at its start", "now"]

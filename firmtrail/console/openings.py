"""Computes the picture of a window's next openings, which a template draws as SVG: a row for each
day, in the clock of the window. The first openings stand next to it in words."""

from datetime import datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from firmtrail.console import filters
from firmtrail.events.steering import Window
from firmtrail.events.times import DAY_MS
from firmtrail.rules import window as rules
from firmtrail.rules.window import OpenTime

DAYS = 7
SOON_MS = 366 * DAY_MS
"""How far ahead openings are listed; the picture shows only the first days."""
HOUR_MS = 3_600_000
LISTED_MAX = 5
LEFT, WIDTH, ROW = 150, 600, 30
"""The place of the hours in the picture, and the height of a day."""
HOURS = (0, 6, 12, 18, 24)


class OpenPart(NamedTuple):
    """Holds the part of a day during which the window is open."""

    x: float
    width: float


class OpeningsDay(NamedTuple):
    """Holds a row of the picture."""

    y: int
    words: str
    parts: list[OpenPart]


class Opening(NamedTuple):
    """Says when an opening begins, in the clock of the window, and how long it lasts; "now",
    "at its start" and "more than" stand for those that a search of bounded length does not find."""

    begins: str
    lasts: str


class OpeningsPicture(NamedTuple):
    """Holds everything that the template draws."""

    days: list[OpeningsDay]
    hours: list[tuple[float, str]]
    openings: list[Opening]
    zone: str
    is_of_devices: bool
    """Whether each device goes by a zone of its own; the picture then shows UTC."""


def from_start(window: Window, start_at_ms: int | None, now_ms: int) -> OpeningsPicture:
    """Returns the picture for a rollout: from its start on, or from now on if it has begun."""
    if start_at_ms is not None and start_at_ms > now_ms:
        return picture(window, start_at_ms, older="at its start")
    return picture(window, now_ms)


def picture(window: Window, now_ms: int, *, older: str = "now") -> OpeningsPicture:
    """Returns the picture of the days from that of `now_ms` on, in the zone of the window. `older`
    is the begin, in words, of an opening that began before them."""
    zone = rules.zone_of(window, None)
    midnights = _midnights(now_ms, zone)
    open_times = _open_times(window, zone, midnights, now_ms)
    return OpeningsPicture(
        [_day(n, midnights, open_times, zone) for n in range(DAYS)],
        [(LEFT + WIDTH * hour / 24, f"{hour:02}") for hour in HOURS],
        [
            each._replace(begins=each.begins or older)
            for each in (
                _opening(window, found, zone, now_ms)
                for found in _coming(open_times, now_ms)[:LISTED_MAX]
            )
        ],
        zone,
        window.timezone == rules.DEVICE_ZONE,
    )


def _midnights(now_ms: int, zone: str) -> list[int]:
    """Returns when today begins in this zone, and each of the days after it."""
    found = ZoneInfo(zone)
    today = filters.moment_of(now_ms).astimezone(found).date()
    days = (today + timedelta(days=n) for n in range(DAYS + 1))
    return [int(datetime.combine(day, time(), found).timestamp() * 1000) for day in days]


def _day(n: int, midnights: list[int], open_times: list[OpenTime], zone: str) -> OpeningsDay:
    begin_ms, end_ms = midnights[n], midnights[n + 1]
    scale = WIDTH / (end_ms - begin_ms)
    parts = []
    for each in open_times:
        first_ms, last_ms = max(begin_ms, each.begins_at_ms), min(end_ms, each.ends_at_ms)
        if first_ms < last_ms:
            x, width = (first_ms - begin_ms) * scale, (last_ms - first_ms) * scale
            parts.append(OpenPart(round(LEFT + x, 1), round(max(1, width), 1)))
    day = _local(begin_ms, zone)
    return OpeningsDay(n * ROW, f"{day:%a} {day.day} {day:%b}", parts)


def _open_times(window: Window, zone: str, midnights: list[int], now_ms: int) -> list[OpenTime]:
    """Returns the open times of the picture, and after them those that are only listed."""
    found: list[OpenTime] = []
    for each in rules.open_times(window, zone, midnights[0], now_ms + SOON_MS):
        is_shown = each.begins_at_ms < midnights[-1]
        if not is_shown and len(_coming(found[-LISTED_MAX:], now_ms)) == LISTED_MAX:
            break
        found.append(each)
    return found


def _coming(open_times: list[OpenTime], now_ms: int) -> list[OpenTime]:
    return [each for each in open_times if each.ends_at_ms > now_ms]


def _opening(window: Window, found: OpenTime, zone: str, now_ms: int) -> Opening:
    """Describes an open time; one that began before the search did has no begin, and lasts from now
    on."""
    is_older = rules.is_open(window, zone, found.begins_at_ms - 1)
    begin_ms = now_ms if is_older else found.begins_at_ms
    begins = "" if is_older else _moment(begin_ms, zone)
    if not found.is_cut:
        return Opening(begins, filters.duration((found.ends_at_ms - begin_ms) // 1000 * 1000))
    hours = (found.ends_at_ms - begin_ms) // HOUR_MS
    return Opening(begins, f"more than {filters.duration(hours * HOUR_MS)}")


def _moment(at_ms: int, zone: str) -> str:
    begins = _local(at_ms, zone)
    return f"{begins:%a} {begins.day} {begins:%b} {begins:%H:%M}"


def _local(at_ms: int, zone: str) -> datetime:
    return filters.moment_of(at_ms).astimezone(ZoneInfo(zone))

"""Computes when a maintenance window is open, and when it opens next.

A cron expression of five fields says when a window opens, in the clock of a time zone. Hours that a
clock skips or repeats are treated as Debian's cron treats them (`cronsim`): an opening in a skipped
hour comes right after it, and one at a fixed hour comes once though the hour is repeated.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from firmtrail.events.steering import Window

DEVICE_ZONE = "device"
"""The zone of a window that opens by each device's own clock."""

OPENINGS_MAX = 500
"""Limits the openings that `open_times` looks at."""

TIMEZONE = "timezone"
"""The attribute in which a device says its time zone, for windows that open by its clock."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_MS = 60_000


class OpenTime(NamedTuple):
    """Holds a time during which a window is open without a break."""

    begins_at_ms: int
    ends_at_ms: int


def fault_of(window: Window) -> tuple[str, str] | None:
    """Returns the member of a window that is wrong, and why; None if the window can open."""
    if window.timezone != DEVICE_ZONE and not _is_zone(window.timezone):
        return "timezone", "is no time zone, such as Europe/Berlin or UTC, and not device"
    if len(window.cron.split()) != 5:
        return "cron", "needs five fields: minute, hour, day of month, month, day of week"
    try:
        opening = next_opening(window, "UTC", 0)
    except CronSimError as error:
        return "cron", f"is no cron expression: {str(error).lower()}"
    return ("cron", "never opens") if opening is None else None


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return False
    return True


def zone_of(window: Window, device_zone: str | None) -> str:
    """Returns the time zone of the window for a device that says it is in this zone. A device that
    says none, or no zone that exists, goes by UTC."""
    if window.timezone != DEVICE_ZONE:
        return window.timezone
    return device_zone if device_zone is not None and _is_zone(device_zone) else "UTC"


def is_open(window: Window, zone: str, now_ms: int) -> bool:
    """Returns whether the window has opened within the last `duration_s`."""
    opening = next_opening(window, zone, now_ms - window.duration_s * 1000)
    return opening is not None and opening <= now_ms


def next_opening(window: Window, zone: str, after_ms: int) -> int | None:
    """Returns the first opening after this time; None if there is none within 50 years."""
    return _opening(window.cron, zone, after_ms // _MINUTE_MS)


def open_times(window: Window, zone: str, begin_ms: int, end_ms: int) -> Iterator[OpenTime]:
    """Yields when the window is open, of the times that begin before `end_ms` and end after
    `begin_ms`. Openings that overlap are one time. At most `OPENINGS_MAX` openings are looked
    at."""
    length_ms = window.duration_s * 1000
    found: OpenTime | None = None
    for opening in _openings(window, zone, begin_ms - length_ms, end_ms):
        if found is not None and opening <= found.ends_at_ms:
            found = found._replace(ends_at_ms=opening + length_ms)
            continue
        if found is not None:
            yield found
        found = OpenTime(opening, opening + length_ms)
    if found is not None:
        yield found


def _openings(window: Window, zone: str, after_ms: int, end_ms: int) -> Iterator[int]:
    for _ in range(OPENINGS_MAX):
        opening = next_opening(window, zone, after_ms)
        if opening is None or opening >= end_ms:
            return
        yield opening
        after_ms = opening


@lru_cache(maxsize=4096)
def _opening(cron: str, zone: str, after_minute: int) -> int | None:
    after = (_EPOCH + timedelta(minutes=after_minute)).astimezone(ZoneInfo(zone))
    found = next(CronSim(cron, after), None)
    if found is None:
        return None
    return (found.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)

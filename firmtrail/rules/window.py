"""Computes when a maintenance window is open, and when it opens next.

A cron expression of five fields says when a window opens, in the clock of a time zone. Hours that a
clock skips or repeats are treated as Debian's cron treats them (`cronsim`): an opening in a skipped
hour comes right after it, and one at a fixed hour comes once though the hour is repeated.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from firmtrail.events.steering import Window

DEVICE_ZONE = "device"
"""The zone of a window that opens by each device's own clock."""

OPENINGS_MAX = 15 * 24 * 60
"""Limits the openings that `open_times` looks at: enough for 14 days with one each minute."""

TIMEZONE = "timezone"
"""The attribute in which a device says its time zone, for windows that open by its clock."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_MS = 60_000


class OpenTime(NamedTuple):
    """Holds a time during which a window is open without a break."""

    begins_at_ms: int
    ends_at_ms: int
    is_cut: bool = False
    """Whether it lasts longer: openings after `ends_at_ms` or at it were not looked at."""


def fault_of(window: Window) -> tuple[str, str] | None:
    """Returns the member of a window that is wrong, and why; None if the window can open."""
    if window.timezone != DEVICE_ZONE and not _is_zone(window.timezone):
        return "timezone", "is not a time zone, such as Europe/Berlin or UTC, and not device"
    if len(window.cron.split()) != 5:
        return "cron", "needs five fields: minute, hour, day of month, month, day of week"
    try:
        opening = next_opening(window, "UTC", 0)
    except CronSimError as error:
        return "cron", f"is not a cron expression: {str(error).lower()}"
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


def first_open(windows: Sequence[Window], from_ms: int) -> int | None:
    """Returns the first time, `from_ms` or later, at which one of these windows is open. Returns
    None if none opens within 50 years. A window that opens by each device's own clock counts as
    open: some device may be anywhere."""
    if not windows or any(each.timezone == DEVICE_ZONE for each in windows):
        return from_ms
    if any(is_open(each, each.timezone, from_ms) for each in windows):
        return from_ms
    openings = (next_opening(each, each.timezone, from_ms) for each in windows)
    return min((opening for opening in openings if opening is not None), default=None)


def open_times(window: Window, zone: str, begin_ms: int, end_ms: int) -> Iterator[OpenTime]:
    """Yields when the window is open, of the times that begin before `end_ms` and end after
    `begin_ms`. Openings that overlap are one time. Only the last time may be cut: no opening from
    `end_ms` on is looked at, and none after the first `OPENINGS_MAX`."""
    length_ms = window.duration_s * 1000
    found: OpenTime | None = None
    after_minute = (begin_ms - length_ms) // _MINUTE_MS
    for number, opening in enumerate(_openings(window.cron, zone, after_minute)):
        is_end = opening >= end_ms or number == OPENINGS_MAX
        if found is None or opening > found.ends_at_ms:
            if found is not None:
                yield found
            found = None if is_end else OpenTime(opening, opening + length_ms)
        elif is_end:
            found = found._replace(is_cut=True)
        else:
            found = found._replace(ends_at_ms=opening + length_ms)
        if is_end:
            break
    if found is not None:
        yield found


@lru_cache(maxsize=4096)
def _opening(cron: str, zone: str, after_minute: int) -> int | None:
    return next(_openings(cron, zone, after_minute), None)


def _openings(cron: str, zone: str, after_minute: int) -> Iterator[int]:
    """Yields the openings after this minute, until there is none within 50 years. Where a clock
    repeats an hour, CronSim begins with an opening of the hour before it."""
    after = (_EPOCH + timedelta(minutes=after_minute)).astimezone(ZoneInfo(zone))
    for found in CronSim(cron, after):
        opening_ms = (found.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
        if opening_ms > after_minute * _MINUTE_MS:
            yield opening_ms

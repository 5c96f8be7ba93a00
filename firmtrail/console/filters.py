"""Writes numbers, times, sizes and hashes as pages show them.

Numbers have thin spaces, and are never broken in their middle. Times are relative in lists, with
the exact time in UTC as their title. Text from devices and people is isolated, so that marks of
direction in it move nothing outside it.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from firmtrail.events.times import DAY_MS, time_text

THIN = "\N{NARROW NO-BREAK SPACE}"
NO_BREAK = "\N{NO-BREAK SPACE}"

_ISOLATING = re.compile("[\u2066-\u2069]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((DAY_MS, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
_RELATIVE_MS_MAX = 30 * DAY_MS
_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def number(value: float) -> str:
    """Returns a count with thin spaces between its thousands."""
    return f"{value:,}".replace(",", THIN)


def percent(share: float, digits: int = 1) -> str:
    """Returns a share of 0 to 1 in percent. A share above 0 is never shown as 0."""
    shown = f"{share * 100:.{digits}f}"
    least = 10**-digits
    if share > 0 and float(shown) == 0:
        shown = f"<{THIN}{least:.{digits}f}"
    if share < 1 and float(shown.lstrip("<" + THIN)) == 100:
        shown = f">{THIN}{100 - least:.{digits}f}"
    return f"{shown}{THIN}%"


def size(size_bytes: int) -> str:
    """Returns a number of bytes in the largest unit of which it has at least one."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    shown = number(size_bytes) if unit == 0 else f"{value:.1f}"
    return f"{shown}{NO_BREAK}{_SIZES[unit]}"


def span(duration_ms: int) -> str:
    """Returns a duration in its largest unit."""
    for unit_ms, name in _UNITS:
        if duration_ms >= unit_ms:
            return f"{number(duration_ms // unit_ms)}{NO_BREAK}{name}"
    return f"0{NO_BREAK}s"


def duration(duration_ms: int) -> str:
    """Returns a duration in all the units that it needs, exact to the second."""
    left_ms, parts = duration_ms, []
    for unit_ms, name in _UNITS:
        count, left_ms = divmod(left_ms, unit_ms)
        if count:
            parts.append(f"{number(count)}{NO_BREAK}{name}")
    return " ".join(parts) or span(0)


def exact(time_ms: int) -> str:
    """Returns a time in UTC with milliseconds, as people read it."""
    return f"{time_text(time_ms)[:-1].replace('T', ' ')}{NO_BREAK}UTC"


def day(time_ms: int) -> str:
    """Returns the day of a time in UTC, with its year."""
    found = moment_of(time_ms)
    return f"{found.day}{NO_BREAK}{found:%b}{NO_BREAK}{found.year}"


def moment_of(time_ms: int) -> datetime:
    """Returns the time as a datetime in UTC."""
    return _EPOCH + timedelta(milliseconds=time_ms)


@pass_context
def ago(context: Context, time_ms: int | None) -> Markup:
    """Returns how long ago a time was, or its day if that is long ago; "never" for None."""
    if time_ms is None:
        return Markup("never")
    past_ms = context["here"].now_ms - time_ms
    shown = day(time_ms)
    if past_ms <= _RELATIVE_MS_MAX:
        shown = f"{span(past_ms)} ago" if past_ms >= 1_000 else "just now"
    return _time(time_ms, shown)


@pass_context
def called(context: Context, time_ms: int | None) -> Markup:
    """Returns how long ago a device called, or that it never did."""
    return Markup("never called") if time_ms is None else ago(context, time_ms)


@pass_context
def when(context: Context, time_ms: int) -> Markup:
    """Returns a time in UTC to the minute; the year is left out if it is the present one."""
    found, now = moment_of(time_ms), moment_of(context["here"].now_ms)
    year = "" if found.year == now.year else f"{NO_BREAK}{found.year}"
    date = "today" if found.date() == now.date() else f"{found.day}{NO_BREAK}{found:%b}{year}"
    return _time(time_ms, f"{date} {found:%H:%M}")


def time(time_ms: int) -> Markup:
    """Returns the exact time, for a machine too."""
    return _time(time_ms, exact(time_ms))


def short(digest: str) -> Markup:
    """Returns the beginning of a hash, with all of it as the title."""
    return Markup('<code title="{}">{}…</code>').format(digest, digest[:8])


def host(url: str) -> str:
    """Returns the host of an address."""
    return urlsplit(url).netloc


def words(text: str) -> Markup:
    """Returns text from a device or a person, isolated from the text around it. A character that
    opens or closes an isolate is shown as U+FFFD, because it could end the isolation early."""
    return Markup("<bdi>{}</bdi>").format(_ISOLATING.sub("\N{REPLACEMENT CHARACTER}", text))


def _time(time_ms: int, shown: str) -> Markup:
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        time_text(time_ms), exact(time_ms), shown
    )


FILTERS: dict[str, Any] = {
    each.__name__: each
    for each in (
        ago,
        called,
        day,
        duration,
        exact,
        host,
        number,
        percent,
        short,
        size,
        span,
        time,
        when,
        words,
    )
}
"""The filters by the names that templates use."""

"""Reads times as clients write them: RFC 3339, with its leap seconds, within the calendar."""

import re
from datetime import UTC, datetime

import msgspec

OUTSIDE_CALENDAR = "is outside the years 1 to 9999 in UTC"

_LEAP_SECOND = re.compile(r"(.{10}[Tt ]\d\d:\d\d):60(\.\d{1,12})?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)


def without_leap_second(text: str) -> str:
    """Returns a time in second 60 as the last millisecond of second 59, and other text unchanged.
    RFC 3339 allows second 60, but a datetime cannot hold it."""
    found = _LEAP_SECOND.fullmatch(text)
    return f"{found[1]}:59.999{found[3]}" if found else text


def parsed(text: str) -> datetime:
    """Returns the time that a text in the form of a time means. Raises `ValueError` with a reason
    if there is no such time."""
    try:
        moment = msgspec.convert(without_leap_second(text), datetime)
    except msgspec.ValidationError:
        raise ValueError("there is no such time") from None
    if not is_in_calendar(moment):
        raise ValueError(OUTSIDE_CALENDAR)
    return moment


def is_in_calendar(moment: datetime) -> bool:
    """Returns whether a time can be written in UTC; its offset may move it out of the calendar."""
    if moment.year not in {1, 9999}:
        return True
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return False
    return True

"""Holds what the bodies of several resources share, and the checks that their types can't express.

A body that a person sends refuses unknown members, so that a typing error is reported. A device's
report ignores them, because its firmware may be newer than the server.
"""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from firmtrail.events.times import time_text
from firmtrail.http.faults import BrokenRule, raise_if_broken
from firmtrail.http.scalars import TEXT_BYTES_MAX, FreeText
from firmtrail.http.times import OUTSIDE_CALENDAR, is_in_calendar

type TimeText = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""An RFC 3339 time in UTC, with milliseconds."""


class StrictBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serves as the base of bodies that people send: an unknown member is an error."""


class Because(StrictBody, frozen=True, kw_only=True):
    """Gives the reason for a command; the reason is stored outside the log."""

    reason: FreeText | None = None

    def __post_init__(self) -> None:
        raise_if_broken(too_long("reason", self.reason))


def time_or_none(time_ms: int | None) -> str | None:
    """Returns the time as answers show it."""
    return None if time_ms is None else time_text(time_ms)


def outside_calendar(name: str, moment: datetime | None) -> BrokenRule | None:
    """Returns the fault of a time whose offset moves it out of the years that can be written."""
    if moment is None or is_in_calendar(moment):
        return None
    return name, OUTSIDE_CALENDAR


def too_long(name: str, text: str | None) -> BrokenRule | None:
    """Returns the fault of a free text that has few enough characters but too many bytes."""
    if text is not None and len(text.encode()) > TEXT_BYTES_MAX:
        return name, f"has more than {TEXT_BYTES_MAX} bytes"
    return None

"""Finds the moment that a page shows, and reads the times that people type into forms.

A browser's field for a time gives no zone, and seconds only if there are some: it is read as UTC,
like all exact times of the pages.
"""

from typing import Annotated, NamedTuple

from msgspec import Meta

from firmtrail.console.here import OlderLog
from firmtrail.eventstore import lineage, log, sizes
from firmtrail.http import query_times
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.times import parsed

type PageTime = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]{5,12}(Z|[+-][0-9]{2}:[0-9]{2})?)?$(?!\n)",
        description="a date, or a time in UTC",
        examples=["2026-03-14", "2026-03-14T09:30"],
    ),
]


class PastMoment(NamedTuple):
    """Holds the size of the log that `as_of` selects, and the time that this is; None: now. The
    size is below 0 for a time at which an older log was the newest."""

    stop: int | None = None
    at_ms: int | None = None
    older: OlderLog | None = None


async def past_of(call: AnyCall) -> PastMoment:
    """Returns the moment that a page's `as_of` selects: a time as it was asked for, and for a size
    the time of its last event. `Moment(size, *past)` is what the page is made with."""
    as_of = call.query.as_of
    if as_of is None:
        return PastMoment()
    stop = await query_times.size_as_of(call, as_of)
    if not as_of.startswith("@"):
        at_ms = query_times.parameter_ms("as_of", as_of)
        return PastMoment(stop, at_ms, await _older_log(call, stop) if stop < 0 else None)
    if stop == 0:
        return PastMoment(stop)
    return PastMoment(stop, await sizes.recorded_at_ms(call.db, call.log_id, stop - 1))


async def _older_log(call: AnyCall, stop: int) -> OlderLog:
    """Returns the older log that a size below 0 is in. At the very first log's beginning it is
    that log, with no events."""
    newest = await log.head(call.db, call.log_id)
    began_ms = await sizes.recorded_at_ms(call.db, call.log_id, 0)
    segments = lineage.segments_of(await call.db.read(lineage.segments(call.log_id)))
    begun = [each for each in segments if each.start < stop] or segments[:1]
    return OlderLog(begun[-1].number, stop - begun[-1].start, newest.number, began_ms)


def as_time(parameter: str, text: str | None) -> str | None:
    """Returns the time that a person typed, as RFC 3339. Raises `Invalid`."""
    if text is None:
        return None
    day, clock = text[:10], text[11:] or "00:00"
    if not clock.endswith("Z") and clock[-6:-5] not in {"+", "-"}:
        clock = f"{clock}:00Z" if clock.count(":") == 1 else f"{clock}Z"
    try:
        parsed(f"{day}T{clock}")
    except ValueError as error:
        raise invalid_parameter(parameter, str(error)) from None
    return f"{day}T{clock}"

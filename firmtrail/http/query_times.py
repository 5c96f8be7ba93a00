"""Resolves the times and log sizes that a query names.

`as_of` selects what was known: after the first N events, or at a time. A time selects the events
that were recorded at or before it. It must not lie in the future, because nothing is known of the
future yet. `at` selects a moment in the devices' own time, which may be a little ahead.
"""

from typing import NamedTuple

from firmtrail.events.times import unix_ms
from firmtrail.eventstore import log, sizes
from firmtrail.eventstore.lineage import POSITION_MAX
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.times import parsed


class Positions(NamedTuple):
    """Names the positions start <= position < stop."""

    start: int
    stop: int


async def positions_between(
    call: AnyCall, log_id: int, since: str | None, until: str | None
) -> Positions:
    """Returns the positions of this log recorded at since <= time < until: times never decrease
    along a log."""
    db, start, stop = call.db, 0, POSITION_MAX
    if since is not None:
        start = max(start, await sizes.at(db, log_id, parameter_ms("since", since) - 1))
    if until is not None:
        stop = max(0, await sizes.at(db, log_id, parameter_ms("until", until) - 1))
    return Positions(start, stop)


async def size_as_of(call: AnyCall, as_of: str) -> int:
    """Returns the size of the log that `as_of` selects: below 0 for a time before the newest log,
    as `sizes.at` says."""
    db, log_id = call.db, call.log_id
    if as_of.startswith("@"):
        size = int(as_of[1:])
        if size > (await log.head(db, log_id)).size:
            raise invalid_parameter("as_of", "the log does not have that many events yet")
        return size
    return await sizes.at(db, log_id, past_ms(call, "as_of", as_of))


def past_ms(call: AnyCall, parameter: str, text: str) -> int:
    """Returns a time in Unix milliseconds. Raises `Invalid` if it lies in the future."""
    at_ms = parameter_ms(parameter, text)
    if at_ms > call.services.access.now_ms():
        raise invalid_parameter(parameter, "is in the future")
    return at_ms


def parameter_ms(parameter: str, text: str) -> int:
    """Returns a time in Unix milliseconds, from a text whose form was checked. Raises `Invalid` if
    there is no such time."""
    try:
        return unix_ms(parsed(text))
    except ValueError as error:
        raise invalid_parameter(parameter, str(error)) from None

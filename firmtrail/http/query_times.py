"""Resolves the times and log sizes that a query names.

`as_of` selects what was known: after the first N events, or at a time. A time selects the events
that were recorded at or before it. It must not lie in the future, because nothing is known of the
future yet. `at` selects a moment in the devices' own time, which may be a little ahead.
"""

from firmtrail.eventstore import log, sizes
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.times import parsed, unix_ms


async def size_as_of(call: AnyCall, as_of: str) -> int:
    """Returns the size of the log that `as_of` selects."""
    db, log_id = call.services.db, call.log_id
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

"""Which past does a query mean?

`as_of` says what was known: after the first N events, or at a time, which is the same as after the
last event recorded at or before it. It can't lie in the future: what will be known is not known.
`at` says when, in the devices' own time, which may be a little ahead.
"""

from firmtrail.eventstore import log, sizes
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import Fault, Invalid
from firmtrail.http.times import parsed, time_ms


async def size_of(call: AnyCall, as_of: str) -> int:
    """The N that `as_of` means."""
    db, log_id = call.services.db, call.log_id
    if as_of.startswith("@"):
        size = int(as_of[1:])
        if size > (await log.head(db, log_id)).size:
            raise invalid("as_of", "there are not as many events yet")
        return size
    return await sizes.at(db, log_id, past_ms(call, "as_of", as_of))


def past_ms(call: AnyCall, parameter: str, text: str) -> int:
    """Unix milliseconds of a time that is not in the future."""
    at_ms = ms(parameter, text)
    if at_ms > call.services.access.now_ms():
        raise invalid(parameter, "is in the future")
    return at_ms


def ms(parameter: str, text: str) -> int:
    """Unix milliseconds of a time whose form was checked, and that may still not exist."""
    try:
        return time_ms(parsed(text))
    except ValueError as error:
        raise invalid(parameter, str(error)) from None


def invalid(parameter: str, reason: str) -> Invalid:
    return Invalid(f"{parameter}: {reason}", faults=[Fault(reason, parameter=parameter)])

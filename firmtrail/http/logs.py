"""Which of its project's logs does a request mean?"""

from firmtrail.eventstore import log
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import NotFound


async def log_of(call: AnyCall) -> int:
    """The log that the path's {number} names, or the newest where the path has no such name.

    Raises `NotFound` where the project has no log of that number.
    """
    if "number" not in call.request.match_info:
        return call.log_id
    number = int(call.path("number") or 0)  # logs are numbered from 1
    log_id = await log.by_number(call.services.db, call.project, number)
    if log_id is None:
        raise NotFound
    return log_id

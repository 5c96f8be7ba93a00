"""Which of its project's logs does a request mean, and which an answer?"""

from collections.abc import Iterable

from msgspec import UNSET, UnsetType

from firmtrail.eventstore import lineage, log
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import NotFound


def is_newest(call: AnyCall) -> bool:
    """Whether the path means the project's newest log, whichever that is."""
    return "number" not in call.request.match_info


async def log_of(call: AnyCall) -> int:
    """The log that the path's {number} names, or the newest where the path has no such name.

    Raises `NotFound` where the project has no log of that number.
    """
    if is_newest(call):
        return call.log_id
    number = int(call.path("number") or 0)  # logs are numbered from 1
    log_id = await log.by_number(call.services.db, call.project, number)
    if log_id is None:
        raise NotFound(f"The project has no log {number}.")
    return log_id


async def old_logs(call: AnyCall, positions: Iterable[int]) -> list[lineage.Segment]:
    """The logs that the newest goes on from, where any of these positions is in one of them."""
    if all(position >= 0 for position in positions):
        return []
    rows = await call.services.db.read(lineage.segments(call.log_id))
    return lineage.segments_of(rows)


def place_of(old: Iterable[lineage.Segment], position: int) -> tuple[int | UnsetType, int]:
    """An event's place as answers show it: the old log's number, if it is in one, and its position
    there."""
    return (UNSET, position) if position >= 0 else lineage.original_place(old, position)

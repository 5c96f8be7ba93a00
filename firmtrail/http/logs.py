"""Finds the log of its project that a request names, and the log that holds an event."""

from collections.abc import Iterable

from msgspec import UNSET, UnsetType

from firmtrail.eventstore import lineage, log
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import NotFound


def is_newest(call: AnyCall) -> bool:
    """Returns whether the path means the project's newest log, because it names none."""
    return "number" not in call.request.match_info


async def log_of(call: AnyCall) -> int:
    """Returns the log that the path's {number} names, or the newest if the path has no {number}.
    Raises `NotFound` if the project has no log with that number."""
    if is_newest(call):
        return call.log_id
    number = int(call.path("number") or 0)  # logs are numbered from 1
    log_id = await log.by_number(call.db, call.project, number)
    if log_id is None:
        raise NotFound(f"The project has no log {number}.")
    return log_id


async def older_logs(call: AnyCall, positions: Iterable[int]) -> list[lineage.Segment]:
    """Returns the older logs that the newest one continues, if they hold one of the positions."""
    if min(positions, default=0) >= 0:
        return []
    rows = await call.db.read(lineage.segments(call.log_id))
    return lineage.segments_of(rows)


def log_and_position(old: Iterable[lineage.Segment], position: int) -> tuple[int | UnsetType, int]:
    """Returns an event's log and position as answers show them. The log is the number of an older
    log, and unset if the newest log holds the event."""
    return (UNSET, position) if position >= 0 else lineage.original_place(old, position)

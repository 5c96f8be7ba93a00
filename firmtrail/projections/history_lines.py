"""Makes the lines of a device's history from the rows that `device_history.pages` reads.

Whether a report shows, and which kind of change it is, depends on the reports around it. It is
computed here, on reading, so a late report rewrites no row.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from firmtrail.database.database import Row
from firmtrail.events.fleet import Status
from firmtrail.rules.device import ClockFault
from firmtrail.rules.history import ChangeKind, Intent, change_of

END = (1 << 63) - 1
"""Higher than every place and position."""

type ReportPlace = tuple[int, int]
"""(place, position): the place of a report in its device's order."""

COLUMNS = (
    *("size", "moves", "place", "position", "version", "status", "time_ms", "recorded_at_ms"),
    *("occurred_at_ms", "clock", "late", "pinned", "ordered", "sent", "previous_version"),
    "order_position",
)
"""The columns of a row, after which comes the report's detail."""
_MOVES, _PLACE, _POSITION, _VERSION, _LATE = map(
    COLUMNS.index, ("moves", "place", "position", "version", "late")
)
_ORDERED, _PREVIOUS, _ORDER_POSITION = map(
    COLUMNS.index, ("ordered", "previous_version", "order_position")
)


class HistoryEntry(Struct, frozen=True, gc=False):
    """Holds one line of a device's history."""

    place: int
    position: int
    version: str
    status: Status
    time_ms: int
    recorded_at_ms: int
    occurred_at_ms: int | None
    clock: ClockFault | None
    late: bool
    sent: str | None
    previous_version: str | None
    change: ChangeKind | None
    """None for a report that does not say which version runs."""
    detail: str | None


class HistoryPage(NamedTuple):
    """Holds entries, the newest first, of a log that had `size` events when they were read."""

    size: int
    entries: list[HistoryEntry]


def page_of(
    rows: Sequence[Row], before: ReportPlace = (END, END), entries_max: int = 1
) -> HistoryPage:
    """Returns the newest entries before a place, from a device's rows of `device_history.pages`. A
    device that reported nothing has one row, without a report."""
    size, rows = rows[0][0], _lines(rows)
    stop = len(rows)
    while stop and (rows[stop - 1][_PLACE], rows[stop - 1][_POSITION]) >= before:
        stop -= 1
    start = max(0, stop - entries_max)
    before_start = next((row for row in reversed(rows[:start]) if row[_MOVES]), None)
    before_previous = before_start[_PREVIOUS] if before_start else None
    entries = []
    for row in rows[start:stop]:
        entries.append(_entry(row, before_previous))
        if row[_MOVES]:
            before_previous = row[_PREVIOUS]
    return HistoryPage(size, entries[::-1])


def _lines(rows: Sequence[Row]) -> Sequence[Row]:
    """Returns the rows that show, each with the offer that it follows.

    Only the first report after an offer, in the device's order, follows it. The row of a later
    report names the offer too, if that report was recorded before the first one.
    """
    if rows[0][_MOVES] is None:
        return ()
    lines: list[Row] = []
    followed: set[int] = set()
    for row in rows:
        order_position = row[_ORDER_POSITION]
        is_repeated = order_position in followed
        if order_position is not None:
            followed.add(order_position)
        if not row[_MOVES] or row[_PREVIOUS] != row[_VERSION]:
            lines.append((*row[:_ORDERED], None, *row[_ORDERED + 1 :]) if is_repeated else row)
    return lines


def _entry(row: Row, before_previous: str | None) -> HistoryEntry:
    place, position, version, status, *times, clock = row[_PLACE:_LATE]
    late, pinned, ordered, sent, previous, _, detail = row[_LATE:]
    time_ms, recorded_at_ms, occurred_at_ms = times
    change = None
    if row[_MOVES]:
        change = change_of(version, previous, before_previous, Intent(pinned, ordered))
    return HistoryEntry(
        place,
        position,
        version,
        status,
        time_ms,
        recorded_at_ms,
        occurred_at_ms,
        clock,
        bool(late),
        sent,
        previous if row[_MOVES] else None,
        change,
        detail,
    )

"""The lines of a device's history, out of the rows that `device_history.pages` reads.

Which of the reports show, and what kind of change each is, depends on the reports around it; so it
is computed here, on reading, and a late report rewrites no row.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.database import Row
from firmtrail.events.fleet import Status
from firmtrail.rules.device import ClockFault
from firmtrail.rules.history import ChangeKind, Intent, change_of

END = (1 << 63) - 1
"""Higher than every place and position."""

type Place = tuple[int, int]
"""(place, position): where a report stands in its device's order."""

_MOVES, _VERSION, _ORDERED, _PREVIOUS, _ORDER_POSITION = 1, 4, 12, 14, 15
"""Columns of a row."""


class Entry(NamedTuple):
    """A line of a device's history."""

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
    """None for a report on the way to a version."""
    detail: str | None


class Page(NamedTuple):
    """Entries, newest first, of a log that had `size` events when they were read."""

    size: int
    entries: list[Entry]


def page_of(rows: Sequence[Row], before: Place = (END, END), entries_max: int = 1) -> Page:
    """Returns the newest entries before a place, from a device's rows of `device_history.pages`;
    one row of nothing is a device that reported nothing."""
    size, rows = rows[0][0], _lines(rows)
    stop = len(rows)
    while stop and (rows[stop - 1][2], rows[stop - 1][3]) >= before:
        stop -= 1
    start = max(0, stop - entries_max)
    before_start = next((row for row in reversed(rows[:start]) if row[_MOVES]), None)
    before_previous = before_start[_PREVIOUS] if before_start else None
    entries = []
    for row in rows[start:stop]:
        entries.append(_entry(row, before_previous))
        if row[_MOVES]:
            before_previous = row[_PREVIOUS]
    return Page(size, entries[::-1])


def _lines(rows: Sequence[Row]) -> Sequence[Row]:
    """Returns the rows that show, each with the offer that it follows.

    Only the first report after an offer, in the device's order, follows it. A later one says so too
    if it was recorded before the first.
    """
    if rows[0][1] is None:
        return ()
    lines: list[Row] = []
    followed: set[int] = set()
    for row in rows:
        order_position = row[_ORDER_POSITION]
        is_repeated = order_position in followed
        if order_position is not None:
            followed.add(order_position)
        if not row[_MOVES] or row[_PREVIOUS] != row[_VERSION]:
            lines.append(_unordered(row) if is_repeated else row)
    return lines


def _unordered(row: Row) -> Row:
    return (*row[:_ORDERED], None, *row[_ORDERED + 1 :])


def _entry(row: Row, before_previous: str | None) -> Entry:
    _, moves, place, position, version, status, time_ms, recorded_at_ms, *more = row
    occurred_at_ms, clock, late, pinned, ordered, sent, previous, _, detail = more
    change = None
    if moves:
        change = change_of(version, previous, before_previous, Intent(pinned, ordered))
    return Entry(
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
        previous if moves else None,
        change,
        detail,
    )

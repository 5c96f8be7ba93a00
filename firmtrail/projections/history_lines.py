"""Makes the lines of a device's history from the rows that `history_pages.look` reads.

Whether a report shows, and which kind of change it is, depends on the reports around it. It is
computed here, on reading, so a late report rewrites no row.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from msgspec import Struct

from firmtrail.database.database import Row
from firmtrail.events.fleet import Status
from firmtrail.rules.device import ClockFault
from firmtrail.rules.history import ChangeKind, Intent, change_of

END = (1 << 63) - 1
"""Higher than every place and position."""

COLUMNS = (
    *("moves", "place", "position", "version", "status", "time_ms", "recorded_at_ms"),
    *("occurred_at_ms", "clock", "late", "pinned", "sent"),
)
"""The columns of a report in a row of `history_pages.look`. Before them come the log's size and the
place where the look ended; after them the offer that the report follows, and its detail."""
_MOVES, _PLACE, _POSITION, _VERSION = (
    2 + COLUMNS.index(name) for name in ("moves", "place", "position", "version")
)
_in_order = itemgetter(_PLACE, _POSITION)

_CUT_RUNS = 2
"""How many of a look's earliest runs are incomplete: it is not known what ran before the first, and
so not with which kind of change the second began."""

type ShownReport = tuple[Row, str | None, str | None]
"""A report that shows, and the two versions that ran before it."""


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
    is_whole: bool
    """Whether the reports that were looked at reach back to the device's first."""


def page_of(rows: list[Row], lines_max: int) -> HistoryPage:
    """Returns the newest entries that are complete, from a device's rows of `history_pages.look`.
    A device that reported nothing has one row, without a report."""
    size, end_place = rows[0][:2]
    is_whole = end_place is None
    if rows[0][_PLACE] is None:
        return HistoryPage(size, [], is_whole)
    lines = _lines(sorted(rows, key=_in_order), 0 if is_whole else _CUT_RUNS)
    return HistoryPage(size, [_entry(*line) for line in lines[: -lines_max - 1 : -1]], is_whole)


def _lines(rows: Sequence[Row], cut_runs: int) -> list[ShownReport]:
    """Returns the lines of these reports, which are given in order, without the first runs."""
    lines: list[ShownReport] = []
    previous = before_previous = None
    runs = cut = 0
    for row in rows:
        if not row[_MOVES]:
            lines.append((row, None, None))
        elif row[_VERSION] != previous:
            lines.append((row, previous, before_previous))
            before_previous, previous = previous, row[_VERSION]
            runs += 1
            if runs <= cut_runs:
                cut = len(lines)
    return lines[cut:]


def _entry(row: Row, previous: str | None, before_previous: str | None) -> HistoryEntry:
    (
        _,
        _,
        moves,
        place,
        position,
        version,
        status,
        time_ms,
        recorded_at_ms,
        occurred_at_ms,
        clock,
        late,
        pinned,
        sent,
        ordered,
        detail,
    ) = row  # one unpacking is faster than slices
    change = None
    if moves:
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
        previous,
        change,
        detail,
    )

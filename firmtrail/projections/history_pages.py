"""Reads pages of the histories of devices: the newest lines first, from any line on.

A page reads the reports that it shows and a few more, however many the device sent. A line is made
from several reports where the device reported one version again and again. Then further looks, each
at more reports, find the lines that are missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Database, Given, Reader, Row, Statement
from firmtrail.projections import history_lines, view
from firmtrail.projections.device_history import NAME
from firmtrail.projections.history_lines import END, HistoryPage
from firmtrail.projections.view import generation_of

SHARED_REPORTS_MAX = 64
"""How many reports of each device a look reads that requests share: enough for a page of 50."""

MORE_REPORTS = 6
"""How many reports a look reads beyond the lines that are wanted: those of its first two versions
are incomplete."""

EVERY_LINE = 1 << 62
"""More lines than any history has."""

_NEXT_LOOK = 5
"""How many times as many reports each further look reads."""

_MERGED_BEYOND = 1_000
"""A look at more reports leaves out those that add no line by a window of SQL. Fewer are all read,
and merged by `history_lines.page_of`: that costs less."""

_ASKED = f"""\
WITH asked AS MATERIALIZED (
    SELECT
        given.n, given.log_id, given.device, given.stop, given.at_ms, given.moves, given.position,
        log_heads.size,
        {generation_of(NAME, "given.log_id")} AS generation,
        CASE WHEN given.at_ms IS NULL THEN given.place ELSE coalesce((
            SELECT max(report.place)
            FROM device_history AS report
            WHERE report.log_id = given.log_id
                AND report.generation = {generation_of(NAME, "given.log_id")}
                AND report.device = given.device
                AND report.moves = 1
                AND report.position < given.stop
                AND report.time_ms <= given.at_ms), -1) END AS begin_place
    FROM given
    JOIN log_heads ON log_heads.log_id = given.log_id),
begun AS MATERIALIZED (
    SELECT
        asked.*,
        CASE WHEN asked.at_ms IS NULL THEN asked.position ELSE coalesce((
            SELECT max(report.position)
            FROM device_history AS report
            WHERE report.log_id = asked.log_id
                AND report.generation = asked.generation
                AND report.device = asked.device
                AND report.place = asked.begin_place
                AND report.moves = 1
                AND report.position < asked.stop
                AND report.time_ms <= asked.at_ms), -1) + 1 END AS begin_position
    FROM asked),
"""
"""Selects the requested devices, each with the place before which its reports count. With `at_ms`,
the last of them is the last installed/running one whose time is not after it."""


def _counts(asked: str) -> str:
    """Returns the condition on the reports that count for a request, among those of `report`."""
    return f"""\
    report.log_id = {asked}.log_id
        AND report.generation = {asked}.generation
        AND report.device = {asked}.device
        AND report.moves >= {asked}.moves
        AND report.position < {asked}.stop
        AND (report.place, report.position) < ({asked}.begin_place, {asked}.begin_position)"""


def _end(asked: str, column: str) -> str:
    return f"""\
(
            SELECT report.{column}
            FROM device_history AS report
            WHERE {_counts(asked)}
            ORDER BY report.place DESC, report.position DESC
            LIMIT 1
            OFFSET $1)"""


_IN_LOOK = f"""\
{_counts("look")}
        AND (report.place, report.position)
            >= (coalesce(look.end_place, -1), coalesce(look.end_position, -1))"""
"""Is true of the reports of a look."""

_LOOKING = (
    _ASKED
    + f"""\
ended AS MATERIALIZED (
    SELECT begun.*, {_end("begun", "place")} AS end_place
    FROM begun),
look AS MATERIALIZED (
    SELECT
        ended.*,
        CASE WHEN end_place IS NOT NULL THEN {_end("ended", "position")} END AS end_position
    FROM ended)"""
)
"""Finds where each look ends, at its $1 + 1st report; `end_place` is NULL if it has fewer."""

_REPORTS = f"""
SELECT
    look.n, look.size, look.end_place, {view.selected(history_lines.COLUMNS, "report")},
    CASE WHEN report.ordered IS NULL OR (
        SELECT earlier.order_position
        FROM device_history AS earlier
        WHERE earlier.log_id = look.log_id
            AND earlier.generation = look.generation
            AND earlier.device = look.device
            AND earlier.position < look.stop
            AND (earlier.place, earlier.position) < (+report.place, +report.position)
            AND (earlier.position < report.order_position
                OR earlier.order_position = report.order_position)
        ORDER BY earlier.place DESC, earlier.position DESC
        LIMIT 1) = report.order_position
    THEN NULL ELSE report.ordered END,
    CASE WHEN report.detailed = 1 THEN coalesce(
        (
            SELECT texts.text
            FROM texts
            WHERE texts.log_id = look.log_id AND texts.position = report.position),
        (
            SELECT texts.text
            FROM continued
            CROSS JOIN texts
            WHERE continued.log_id = look.log_id
                AND continued.start <= report.position
                AND continued.start + continued.size > report.position
                AND texts.log_id = continued.old_log_id
                AND texts.position = report.position - continued.start),
        'erased') END
"""
"""Selects the reports of a look, in any order: `history_lines.page_of` sorts them, which costs
less there.

An offer is followed by the first report after it, in the device's order. The row of a later report
names the offer too, if it was recorded before the first one. All reports that were recorded before
the offer have earlier places than those that name it, so they end the search for the first one.
The plus makes SQLite search its index by both values, as it would not by two columns."""

_LOOK = f"""\
{_LOOKING}{_REPORTS}\
FROM look
LEFT JOIN device_history AS report ON {_IN_LOOK}"""

_MERGED_LOOK = f"""\
{_LOOKING},
reports AS MATERIALIZED (
    SELECT
        look.n, report.moves, report.place, report.position, report.version,
        lag(report.version) OVER (
            PARTITION BY look.n, report.moves ORDER BY report.place, report.position
        ) AS previous_version
    FROM look
    LEFT JOIN device_history AS report ON {_IN_LOOK}){_REPORTS}\
FROM reports
CROSS JOIN look
LEFT JOIN device_history AS report ON {_counts("look")}
    AND report.place = reports.place
    AND report.position = reports.position
WHERE look.n = reports.n
    AND (reports.moves IS NULL
        OR reports.moves = 0
        OR reports.previous_version IS NULL
        OR reports.previous_version <> reports.version)"""
"""Leaves out the reports that repeat the version before."""

_LAST = (
    _ASKED
    + f"""\
last AS MATERIALIZED (
    SELECT begun.*, {_end("begun", "place")} AS place
    FROM begun)
SELECT last.n, report.status, report.clock
FROM last
CROSS JOIN device_history AS report
WHERE report.log_id = last.log_id
    AND report.generation = last.generation
    AND report.device = last.device
    AND report.place = last.place
    AND report.position = {_end("last", "position")}"""
)

_REQUEST_COLUMNS = (
    "n bigint, log_id bigint, device text, stop bigint, at_ms bigint, moves bigint, "
    "place bigint, position bigint"
)


class HistoryRequest(NamedTuple):
    """Requests a page of the history of one device."""

    log_id: int
    device: str
    stop: int = END
    """Only reports at positions before it."""
    at_ms: int | None = None
    """Only up to the last installed/running report whose time is not after it; needed only for the
    first page, since later ones begin before its lines."""
    moves: int = 1
    """1: installed/running reports; 0: all."""
    place: int = END
    """Only reports before it and `position` in the device's order; not used with `at_ms`."""
    position: int = END
    lines_max: int = 1


class Histories:
    """Reads histories; requests that arrive together share their first query."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._looks = Coalescer(db, look)

    async def page(self, asked: HistoryRequest) -> HistoryPage:
        reports_max = asked.lines_max + MORE_REPORTS
        if reports_max > SHARED_REPORTS_MAX:
            [page] = await pages(self._db, [asked])
            return page
        rows = await self._looks.get(asked)
        [page] = await _completed(self._db, [asked], [rows], SHARED_REPORTS_MAX)
        return page


async def pages(
    db: Reader, requests: Sequence[HistoryRequest], reports_max: int = 0
) -> list[HistoryPage]:
    """Returns the page of each request. The first look reads `reports_max` reports of each device,
    or, if there are fewer than their lines need, a few more than these lines."""
    reports_max = max([reports_max, *(each.lines_max + MORE_REPORTS for each in requests)])
    looks: list[list[Row]] = [[] for _ in requests]
    for n, *row in await db.read(look(requests, reports_max)):
        looks[n].append(row)
    return await _completed(db, requests, looks, reports_max)


async def _completed(
    db: Reader, requests: Sequence[HistoryRequest], looks: Sequence[list[Row]], reports_max: int
) -> list[HistoryPage]:
    """Returns the pages that begin with these looks. Further looks find older lines, of the same
    size of the log."""
    found = [
        history_lines.page_of(rows, asked.lines_max)
        for asked, rows in zip(requests, looks, strict=True)
    ]
    unfinished = {
        n: _rest(asked, page)
        for n, (asked, page) in enumerate(zip(requests, found, strict=True))
        if not page.is_whole and len(page.entries) < asked.lines_max
    }
    if unfinished:
        rests = await pages(db, list(unfinished.values()), reports_max * _NEXT_LOOK)
        for n, rest in zip(unfinished, rests, strict=True):
            found[n] = found[n]._replace(entries=found[n].entries + rest.entries)
    return found


def _rest(asked: HistoryRequest, page: HistoryPage) -> HistoryRequest:
    """Returns the request of the lines that a look did not find."""
    asked = asked._replace(stop=min(asked.stop, page.size))
    if not page.entries:
        return asked
    last = page.entries[-1]
    wanted = asked.lines_max - len(page.entries)
    return asked._replace(at_ms=None, place=last.place, position=last.position, lines_max=wanted)


def look(requests: Sequence[HistoryRequest], reports_max: int = SHARED_REPORTS_MAX) -> Statement:
    """Reads the last reports of each request's history; `history_lines.page_of` decodes the rows of
    one `n`."""
    text = _MERGED_LOOK if reports_max > _MERGED_BEYOND else _LOOK
    return Statement(text, (reports_max - 1,), _given(requests))


def last_reports(requests: Sequence[HistoryRequest]) -> Statement:
    """Reads (n, status, clock) of each device's last report, in the device's order."""
    return Statement(_LAST, (0,), _given(requests))


def _given(requests: Sequence[HistoryRequest]) -> Given:
    return Given(_REQUEST_COLUMNS, [(n, *one[:-1]) for n, one in enumerate(requests)])

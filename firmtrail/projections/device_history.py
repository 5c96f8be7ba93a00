"""Keeps the view of all reports of each device, in the device's own order.

A row is a report as it was claimed. The meaning of a report next to its neighbours (the version
before it, the kind of change, whether it shows at all) is computed on reading, so a late report
adds its row and rewrites none.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from firmtrail.database.database import Given, Row, Statement, Value
from firmtrail.events.fleet import ReportEvent
from firmtrail.projections import history_lines, view
from firmtrail.projections.history_lines import END
from firmtrail.projections.view import Table, columns_of, generation_of, listed
from firmtrail.rules.device import FAILING, MOVING, DeviceState, Placed
from firmtrail.rules.offer import Follows
from firmtrail.rules.previous import PastRun

NAME = "device_history"
REVISION = 2
TABLE = Table(
    NAME,
    ("device", "place", "position"),
    columns_of("""
        device text, place bigint, position bigint, moves flag, version text, status text,
        time_ms bigint, recorded_at_ms bigint, occurred_at_ms bigint, clock text, late flag,
        pinned text, sent text, detailed flag, ordered text, order_position bigint,
        failed_model text"""),
)
TABLES: tuple[Table, ...] = (TABLE,)

_INSERT = view.insert(TABLE)
_COLUMNS = view.typed(TABLE.columns)

_LATER = """\
SELECT given.n, behind.place, behind.position, behind.version, behind.time_ms
FROM given
CROSS JOIN device_history AS behind
WHERE behind.log_id = $1
    AND behind.generation = $2
    AND behind.device = given.device
    AND behind.moves = 1
    AND behind.place = (
        SELECT min(nearest.place)
        FROM device_history AS nearest
        WHERE nearest.log_id = $1
            AND nearest.generation = $2
            AND nearest.device = given.device
            AND nearest.moves = 1
            AND nearest.place > given.place)
ORDER BY given.n, behind.position"""

_RUNS = f"""\
WITH bad AS (
    SELECT
        given.n, given.log_id, given.device, given.bad_version, given.stop,
        (
            SELECT min(report.place)
            FROM device_history AS report
            WHERE report.log_id = given.log_id
                AND report.generation = {{of_given}}
                AND report.device = given.device
                AND report.moves = 1
                AND report.version = given.bad_version
                AND report.position < given.stop) AS place
    FROM given)
SELECT
    bad.n,
    ran.version,
    CASE WHEN EXISTS (
        SELECT 1
        FROM device_history AS failed
        WHERE failed.log_id = bad.log_id
            AND failed.generation = {{of_bad}}
            AND failed.device = bad.device
            AND failed.version = ran.version
            AND failed.status IN {listed(FAILING)}
            AND failed.position < bad.stop
            AND failed.failed_model = (
                SELECT current.model
                FROM device_current AS current
                WHERE current.log_id = bad.log_id
                    AND current.generation = {generation_of("device_current", "bad.log_id")}
                    AND current.device = bad.device)
            AND NOT EXISTS (
                SELECT 1
                FROM device_history AS again
                WHERE again.log_id = bad.log_id
                    AND again.generation = {{of_bad}}
                    AND again.device = bad.device
                    AND again.version = ran.version
                    AND again.moves = 1
                    AND again.position < bad.stop
                    AND (again.place, again.position) > (failed.place, failed.position)))
    THEN 1 ELSE 0 END
FROM bad
CROSS JOIN device_history AS ran
WHERE ran.log_id = bad.log_id
    AND ran.generation = {{of_bad}}
    AND ran.device = bad.device
    AND ran.moves = 1
    AND ran.version <> bad.bad_version
    AND ran.position < bad.stop
    AND (bad.place IS NULL OR ran.place < bad.place OR (ran.place = bad.place AND ran.position < (
        SELECT min(report.position)
        FROM device_history AS report
        WHERE report.log_id = bad.log_id
            AND report.generation = {{of_bad}}
            AND report.device = bad.device
            AND report.place = bad.place
            AND report.moves = 1
            AND report.version = bad.bad_version
            AND report.position < bad.stop)))
GROUP BY bad.n, bad.log_id, bad.device, bad.stop, ran.version
ORDER BY bad.n, max(ran.place) DESC, max(ran.position) DESC"""

_REQUESTED = f"""\
WITH reached AS MATERIALIZED (
    SELECT
        given.n, given.log_id, given.device, given.stop, given.at_ms, given.moves,
        log_heads.size,
        {generation_of(NAME, "given.log_id")} AS generation,
        CASE WHEN given.at_ms IS NOT NULL THEN coalesce((
            SELECT max(report.place)
            FROM device_history AS report
            WHERE report.log_id = given.log_id
                AND report.generation = {generation_of(NAME, "given.log_id")}
                AND report.device = given.device
                AND report.moves = 1
                AND report.position < given.stop
                AND report.time_ms <= given.at_ms), -1) END AS last_place
    FROM given
    JOIN log_heads ON log_heads.log_id = given.log_id),
asked AS MATERIALIZED (
    SELECT
        reached.*,
        CASE WHEN at_ms IS NOT NULL THEN coalesce((
            SELECT max(report.position)
            FROM device_history AS report
            WHERE report.log_id = reached.log_id
                AND report.generation = reached.generation
                AND report.device = reached.device
                AND report.place = reached.last_place
                AND report.moves = 1
                AND report.position < reached.stop
                AND report.time_ms <= reached.at_ms), -1) END AS last_position
    FROM reached),
"""
"""Selects the requested devices, each with the last report that counts: with `at_ms`, the last
installed/running one whose time is not after it."""

_REACHED = """\
    report.log_id = asked.log_id
        AND report.generation = asked.generation
        AND report.device = asked.device
        AND report.moves >= asked.moves
        AND report.position < asked.stop
        AND (asked.at_ms IS NULL
            OR report.place < asked.last_place
            OR (report.place = asked.last_place AND report.position <= asked.last_position))"""
"""Is true of the reports that count for each request."""

_PAGE = (
    _REQUESTED
    + f"""\
reports AS (
    SELECT
        asked.n, asked.size, asked.log_id, report.moves, report.place, report.position,
        report.version, report.status, report.time_ms, report.recorded_at_ms,
        report.occurred_at_ms, report.clock, report.late, report.pinned, report.sent,
        report.detailed, report.ordered, report.order_position,
        lag(report.version) OVER (
            PARTITION BY asked.n, report.moves ORDER BY report.place, report.position
        ) AS previous_version
    FROM asked
    LEFT JOIN device_history AS report ON {_REACHED})
SELECT
    reports.n, {view.selected(history_lines.COLUMNS, "reports")},
    CASE WHEN reports.detailed = 1 THEN coalesce(
        (
            SELECT texts.text
            FROM texts
            WHERE texts.log_id = reports.log_id AND texts.position = reports.position),
        (
            SELECT texts.text
            FROM continued
            CROSS JOIN texts
            WHERE continued.log_id = reports.log_id
                AND continued.start <= reports.position
                AND continued.start + continued.size > reports.position
                AND texts.log_id = continued.old_log_id
                AND texts.position = reports.position - continued.start),
        'erased') END
FROM reports
WHERE reports.moves IS NULL
    OR reports.moves = 0
    OR reports.previous_version IS NULL
    OR reports.previous_version <> reports.version
    OR reports.order_position IS NOT NULL
ORDER BY reports.n, reports.place, reports.position"""
)
"""Selects the whole history of each request, with neighbours of one version merged. It keeps the
reports that follow an offer, which `history_lines.page_of` merges. It has one window function, and
Python does the rest: a second and a third window, for a page's end and for the version before the
last, took three times as long, and histories are short."""

_LAST = (
    _REQUESTED
    + f"""\
ranked AS (
    SELECT
        asked.n, report.status, report.clock,
        row_number() OVER (
            PARTITION BY asked.n ORDER BY report.place DESC, report.position DESC
        ) AS rank
    FROM asked
    CROSS JOIN device_history AS report
    WHERE {_REACHED})
SELECT ranked.n, ranked.status, ranked.clock
FROM ranked
WHERE ranked.rank = 1"""
)

_REQUEST_COLUMNS = """\
n bigint, log_id bigint, device text, stop bigint, at_ms bigint, moves bigint"""


type Runs = dict[tuple[str, str], list[PastRun]]
"""The versions that each (device, bad version) ran before the bad one, that of the latest run
first."""


class HistoryRequest(NamedTuple):
    """Requests the history of one device."""

    log_id: int
    device: str
    stop: int = END
    """Only reports at positions before it."""
    at_ms: int | None = None
    """Only up to the last installed/running report whose time is not after it."""
    moves: int = 1
    """1: installed/running reports; 0: all."""


type FoldedReport = tuple[DeviceState, ReportEvent, Placed, int, Follows | None]
"""A report: the device before it, the event, its place, recorded_at_ms, and the offers that it
follows."""


def insert(log_id: int, generation: int, reports: Sequence[FoldedReport]) -> Statement:
    """Inserts one row for each report, ordered, so that neighbours share a page."""
    rows = sorted(map(_row, reports))  # no two have the first columns in common
    return Statement(_INSERT, (log_id, generation), Given(_COLUMNS, rows))


def _row(report: FoldedReport) -> tuple[Value, ...]:
    state, event, at, recorded_at_ms, follows = report
    return (
        state.device,
        at.place,
        at.position,
        int(event.status in MOVING),
        event.version,
        event.status,
        at.time_ms,
        recorded_at_ms,
        at.occurred_at_ms,
        at.clock,
        int(at.late),
        state.pinned,
        event.sent,
        int(event.detail is not None),
        follows.ordered if follows else None,
        follows.position if follows else None,
        state.model if event.status in FAILING else None,
    )


def later(log_id: int, generation: int, places: Sequence[tuple[str, int]]) -> Statement:
    """Reads for each (device, place) the nearest installed/running reports after it. The rows are
    (n, place, position, version, time_ms), for each n the earliest first."""
    rows = [(n, device, place) for n, (device, place) in enumerate(places)]
    given = Given("n bigint, device text, place bigint", rows)
    return Statement(_LATER, (log_id, generation), given)


def runs(wanted: Sequence[tuple[Value, ...]], generation: int | None = None) -> Statement:
    """Reads for each (log_id, device, bad version, stop) the versions that the device ran before
    the bad one, by its reports at positions before `stop`; `runs_of` decodes them. Without a
    generation, reads the live one."""
    rows = [(n, *key) for n, key in enumerate(wanted)]
    given = Given("n bigint, log_id bigint, device text, bad_version text, stop bigint", rows)
    if generation is not None:
        return Statement(_RUNS.format(of_given="$1", of_bad="$1"), (generation,), given)
    of_given, of_bad = generation_of(NAME, "given.log_id"), generation_of(NAME, "bad.log_id")
    return Statement(_RUNS.format(of_given=of_given, of_bad=of_bad), (), given)


def runs_of(wanted: Sequence[tuple[str, str]], rows: Iterable[Row]) -> Runs:
    """Returns the runs of each (device, bad version) from the rows of `runs`."""
    found: Runs = {key: [] for key in wanted}
    for n, version, has_failed in rows:
        found[wanted[n]].append(PastRun(version, bool(has_failed)))
    return found


def pages(requests: Sequence[HistoryRequest]) -> Statement:
    """Reads the history of each request; `history_lines.page_of` decodes the rows of one `n`."""
    return Statement(_PAGE, (), _given(requests))


def last_reports(requests: Sequence[HistoryRequest]) -> Statement:
    """Reads (n, status, clock) of each device's last report, in the device's order."""
    return Statement(_LAST, (), _given(requests))


def _given(requests: Sequence[HistoryRequest]) -> Given:
    return Given(_REQUEST_COLUMNS, [(n, *one) for n, one in enumerate(requests)])

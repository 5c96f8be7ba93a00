"""Keeps the view of all reports of each device, in the device's own order.

A row is a report as it was claimed. The meaning of a report next to its neighbours (the version
before it, the kind of change, whether it shows at all) is computed on reading, so a late report
adds its row and rewrites none.
"""

from collections.abc import Iterable, Sequence

from firmtrail.database.database import Given, Row, Statement, Value
from firmtrail.events.fleet import ReportEvent
from firmtrail.projections import view
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

type Runs = dict[tuple[str, str], list[PastRun]]
"""The versions that each (device, bad version) ran before the bad one, that of the latest run
first."""


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

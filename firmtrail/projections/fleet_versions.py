"""Keeps the view of how many devices run each version, now and after any number of events.

A cell is a (model, version); a device without one of them has ''. `fleet_versions` has each cell's
count at the end of every bucket of positions in which it changed, so the newest row is the present
count. `fleet_moves` has each single move between cells. So the counts after N events are the rows
of the last whole bucket before N, and the few moves after it. `fleet_labels` has the present counts
of the devices of each cohort and of each tag (`projections/fleet_labels.py`).

A read takes a few lookups a cell, however many buckets there are.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Reader, Statement
from firmtrail.projections import view
from firmtrail.projections.view import Table, columns_of, generation_of
from firmtrail.rules.device import DeviceState

NAME = "fleet_versions"
REVISION = 2
_CHANGE = columns_of("model text, version text, devices bigint")
COUNTS = Table(NAME, ("model", "version", "bucket"), _CHANGE | columns_of("bucket bigint"))
MOVES = Table(
    "fleet_moves",
    ("position",),
    columns_of("""
        position bigint, model_left text, version_left text, model_entered text,
        version_entered text"""),
)
LABELS = Table(
    "fleet_labels",
    ("label", "model", "version"),
    columns_of("label text, model text, version text, devices bigint"),
)
TABLES: tuple[Table, ...] = (COUNTS, MOVES, LABELS)

BUCKET_EVENTS = 4096
"""The positions of a bucket; one answer reads at most as many moves."""

type FleetCell = tuple[str, str]
"""(model, version); '' stands for a missing one."""


class CellMove(NamedTuple):
    """Records that a device left one cell and entered another; None is outside the fleet."""

    position: int
    left: FleetCell | None
    entered: FleetCell | None


_INSERT_MOVES = view.insert(MOVES)
_MOVE_COLUMNS = view.typed(MOVES.columns)

_CHANGE_COLUMNS = view.typed(_CHANGE)

_ADD = """\
INSERT INTO fleet_versions (log_id, generation, model, version, bucket, devices)
SELECT
    $1, $2, given.model, given.version, $3,
    given.devices + coalesce((
        SELECT newest.devices
        FROM fleet_versions AS newest
        WHERE newest.log_id = $1
            AND newest.generation = $2
            AND newest.model = given.model
            AND newest.version = given.version
        ORDER BY newest.bucket DESC
        LIMIT 1), 0)
FROM given
WHERE TRUE
ON CONFLICT (log_id, generation, model, version, bucket) DO UPDATE SET devices = excluded.devices"""

_LOG = f"""\
WITH RECURSIVE live AS {generation_of(NAME)},
logs AS (
    SELECT log_id, (SELECT generation FROM live) AS generation
    FROM log_heads
    WHERE log_id = $1)"""

_LOGS = f"""\
WITH RECURSIVE logs AS (
    SELECT log_id, {generation_of(NAME, "log_heads.log_id")} AS generation
    FROM log_heads
    WHERE closed = 0)"""

_MODELS = """\
models AS (
    SELECT log_id, generation, (
        SELECT cell.model
        FROM fleet_versions AS cell
        WHERE cell.log_id = logs.log_id AND cell.generation = logs.generation
        ORDER BY cell.model
        LIMIT 1) AS model
    FROM logs
    UNION ALL
    SELECT log_id, generation, (
        SELECT cell.model
        FROM fleet_versions AS cell
        WHERE cell.log_id = models.log_id
            AND cell.generation = models.generation
            AND cell.model > models.model
        ORDER BY cell.model
        LIMIT 1)
    FROM models
    WHERE model IS NOT NULL)"""
"""Selects the models, each found from the one before it by the key. A GROUP BY would read every
bucket that there ever was."""

_NEWEST = """\
cells AS (
    SELECT log_id, generation, model, (
        SELECT cell.version
        FROM fleet_versions AS cell
        WHERE cell.log_id = models.log_id
            AND cell.generation = models.generation
            AND cell.model = models.model
        ORDER BY cell.version
        LIMIT 1) AS version
    FROM models
    WHERE model IS NOT NULL
    UNION ALL
    SELECT log_id, generation, model, (
        SELECT cell.version
        FROM fleet_versions AS cell
        WHERE cell.log_id = cells.log_id
            AND cell.generation = cells.generation
            AND cell.model = cells.model
            AND cell.version > cells.version
        ORDER BY cell.version
        LIMIT 1)
    FROM cells
    WHERE version IS NOT NULL),
newest AS (
    SELECT log_id, model, version, (
        SELECT counted.devices
        FROM fleet_versions AS counted
        WHERE counted.log_id = cells.log_id
            AND counted.generation = cells.generation
            AND counted.model = cells.model
            AND counted.version = cells.version
            AND counted.bucket < $n
        ORDER BY counted.bucket DESC
        LIMIT 1) AS devices
    FROM cells
    WHERE version IS NOT NULL)"""
"""Selects the versions of each model in the same way, and each cell's last count before bucket
$n."""

_COUNTS = f"""\
{_LOG},
{_MODELS},
{_NEWEST.replace("$n", "$2")},
changes AS (
    SELECT model, version, devices
    FROM newest
    UNION ALL
    SELECT model_left, version_left, -1
    FROM fleet_moves
    WHERE log_id = $1
        AND generation = (SELECT generation FROM live)
        AND position >= $3
        AND position < $4
        AND model_left IS NOT NULL
    UNION ALL
    SELECT model_entered, version_entered, 1
    FROM fleet_moves
    WHERE log_id = $1
        AND generation = (SELECT generation FROM live)
        AND position >= $3
        AND position < $4
        AND model_entered IS NOT NULL),
sums AS (
    SELECT model, version, CAST(sum(devices) AS bigint) AS devices
    FROM changes
    GROUP BY model, version)
SELECT log_heads.size, sums.model, sums.version, sums.devices
FROM log_heads
LEFT JOIN sums ON sums.devices > 0
WHERE log_heads.log_id = $1
ORDER BY sums.model, sums.version"""

_EVERYWHERE = f"""\
{_LOGS},
{_MODELS},
{_NEWEST.replace("$n", "$1")}
SELECT log_id, model, version, devices
FROM newest
WHERE devices > 0
ORDER BY log_id, model, version"""

_OF_MODEL = f"""\
{_LOG},
models AS (
    SELECT log_id, generation, CAST($3 AS text) AS model
    FROM logs),
{_NEWEST.replace("$n", "$2")}
SELECT coalesce(CAST(sum(devices) AS bigint), 0)
FROM newest"""

_AFTER_ALL = 1 << 62
"""A bucket that no log reaches."""


class VersionCount(NamedTuple):
    model: str | None
    version: str | None
    devices: int


def cell_of(state: DeviceState | None) -> FleetCell | None:
    """Returns the cell of a device; None before it is registered and once it is decommissioned."""
    if state is None or state.decommissioned:
        return None
    return state.model or "", state.version or ""


def apply(log_id: int, generation: int, moves: Sequence[CellMove]) -> list[Statement]:
    """Returns the statements that write the moves, and the counts of each bucket that they change,
    the earlier bucket first."""
    outside = (None, None)
    rows = [(at, *(left or outside), *(entered or outside)) for at, left, entered in moves]
    statements = [Statement(_INSERT_MOVES, (log_id, generation), Given(_MOVE_COLUMNS, rows))]
    buckets = sorted({move.position // BUCKET_EVENTS for move in moves})
    for bucket in buckets:
        changes = _changes(move for move in moves if move.position // BUCKET_EVENTS == bucket)
        given = Given(_CHANGE_COLUMNS, changes)
        statements.append(Statement(_ADD, (log_id, generation, bucket), given))
    return statements


def _changes(moves: Iterable[CellMove]) -> list[tuple[str, str, int]]:
    """Returns the change of each cell named, including 0, so that the rows do not depend on where
    commits end."""
    changes: dict[FleetCell, int] = {}
    for _, left, entered in moves:
        if left is not None:
            changes[left] = changes.get(left, 0) - 1
        if entered is not None:
            changes[entered] = changes.get(entered, 0) + 1
    return [(*cell, devices) for cell, devices in sorted(changes.items())]


async def counts(
    db: Reader, log_id: int, stop: int | None = None
) -> tuple[int, list[VersionCount]]:
    """Returns the log's size, and the counts after its first `stop` events (None: all), by model
    and version."""
    if stop is None:
        bounds = (_AFTER_ALL, 0, 0)
    else:
        bucket = stop // BUCKET_EVENTS
        bounds = (bucket, bucket * BUCKET_EVENTS, stop)
    size_and_counts = await db.read(Statement(_COUNTS, (log_id, *bounds)))
    return size_and_counts[0][0], [
        VersionCount(model or None, version or None, devices)
        for _, model, version, devices in size_and_counts
        if model is not None
    ]


def total(
    counts: Iterable[VersionCount], model: str | None = None, version: str | None = None
) -> int:
    """Returns how many devices are of this model and run this version; None stands for any."""
    return sum(
        each.devices
        for each in counts
        if model in {None, each.model} and version in {None, each.version}
    )


async def everywhere(db: Database) -> dict[int, list[VersionCount]]:
    """Returns the counts of all projects' newest logs, by log."""
    found: dict[int, list[VersionCount]] = {}
    for log_id, model, version, devices in await db.read(Statement(_EVERYWHERE, (_AFTER_ALL,))):
        found.setdefault(log_id, []).append(VersionCount(model or None, version or None, devices))
    return found


async def of_model(db: Reader, log_id: int, model: str) -> int:
    [[found]] = await db.read(Statement(_OF_MODEL, (log_id, _AFTER_ALL, model)))
    return int(found)

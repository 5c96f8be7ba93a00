"""Keeps the view of the current state of each device: the state that the rules fold, one row a
device."""

from collections.abc import Iterable, Sequence
from itertools import batched
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import astuple

from firmtrail.database.database import Given, Reader, Row, Statement, Value
from firmtrail.events.times import DAY_MS
from firmtrail.projections import view
from firmtrail.projections.device_attributes import ATTRIBUTES
from firmtrail.projections.fleet_versions import FleetCell
from firmtrail.projections.outdated import Outdated
from firmtrail.projections.view import Table, columns_of, generation_of
from firmtrail.rules.device import FAILING, DeviceState

NAME = "device_current"
REVISION = 2
TABLE = Table(
    NAME,
    ("device",),
    columns_of("device text")
    | ATTRIBUTES
    | columns_of("""
        version text, since_ms bigint, previous_version text, run_place bigint,
        run_position bigint, last_place bigint, last_position bigint, last_version text,
        status text, clock text, recorded_position bigint, recorded_at_ms bigint,
        counting_place bigint, registered_at_ms bigint fixed, is_ordered flag,
        installing_version text, installing_ms bigint"""),
)
"""Its columns are the members of `DeviceState`, in their order."""
TABLES: tuple[Table, ...] = (TABLE,)

_row = view.encoder(TABLE.columns, astuple)
_state = view.decoder(TABLE.columns, DeviceState)

CELLS_MAX = 2_000
"""How many cells a statement may name: drivers take 32 767 arguments, and SQLite is slow with
many."""

STATE = view.selected(TABLE.columns, "device")

WAITING = "(device.pending = 1 OR device.offered_key IS NOT NULL)"
"""Is true of a device that waits to be accepted, or has a key that does."""

SILENT_DAYS = 7
"""How long a device makes no call before counts of silent devices include it."""
SILENT_MS = SILENT_DAYS * DAY_MS

SILENT = """\
coalesce(device.recorded_at_ms, device.registered_at_ms, -1) < $n
    AND coalesce(seen.seen_at_ms, -1) < $n"""
"""Is true of a device that neither reported nor called since `$n`, and was registered before."""

IS_FAILING = f"status IN {view.listed(FAILING)}"
"""Is true of a device whose last report says that an update failed."""

_MODELS = f"""\
SELECT device.device, device.model
FROM given
CROSS JOIN device_current AS device
WHERE device.log_id = $1
    AND device.generation = {view.generation_of(NAME)}
    AND device.device = given.device"""

_LOAD = f"""\
SELECT {STATE}
FROM given
CROSS JOIN device_current AS device
WHERE device.log_id = $1 AND device.generation = $2 AND device.device = given.device"""

_SAVE = view.upsert(TABLE)
_COLUMNS = view.typed(TABLE.columns)

_ONE = f"""\
SELECT
    given.n, log_heads.size, coalesce(seen.seen_at_ms, 0), {STATE}
FROM given
JOIN log_heads ON log_heads.log_id = given.log_id
LEFT JOIN device_current AS device
    ON device.log_id = given.log_id
    AND device.generation = {generation_of(NAME, "given.log_id")}
    AND device.device = given.device
LEFT JOIN device_seen AS seen
    ON seen.project = log_heads.project AND seen.device = given.device"""

_LIST = f"""\
SELECT log_heads.size, found.*
FROM log_heads
LEFT JOIN (
    SELECT coalesce(seen.seen_at_ms, 0) AS seen_at_ms, {STATE}
    FROM {{devices}}
    LEFT JOIN device_seen AS seen ON seen.project = $2 AND seen.device = device.device
    WHERE device.log_id = $1
        AND device.generation = {generation_of(NAME)}
        AND {{conditions}}
    ORDER BY {{place}}
    LIMIT {{limit}}) AS found ON TRUE
WHERE log_heads.log_id = $1
ORDER BY found.device"""

_COUNT = f"""\
SELECT count(*)
FROM {{devices}}
LEFT JOIN device_seen AS seen ON seen.project = $2 AND seen.device = device.device
WHERE device.log_id = $1
    AND device.generation = {generation_of(NAME)}
    AND {{conditions}}"""

_COUNT_FAILING = f"""\
SELECT count(*)
FROM (
    SELECT 1
    FROM device_current
    WHERE log_id = $1
        AND generation = {generation_of(NAME)}
        AND {IS_FAILING}
        AND decommissioned = 0
    LIMIT $2) AS found"""


_COUNT_TO = f"""\
SELECT count(*)
FROM (
    SELECT 1
    FROM device_current
    WHERE log_id = $1 AND generation = {generation_of(NAME)}
    LIMIT $2) AS found"""


_COUNT_PENDING = f"""\
SELECT count(*)
FROM (
    SELECT 1
    FROM device_current
    WHERE log_id = $1
        AND generation = {generation_of(NAME)}
        AND (pending = 1 OR offered_key IS NOT NULL)
    LIMIT $2) AS found"""


_ALL = "device_current AS device"

_SAYING = "attribute_pairs AS said CROSS JOIN device_current AS device"
"""Reads the devices that say something of themselves, in the order of their ids."""

_SAYS = "said.project = $2 AND said.pair = $n AND device.device = said.device"

_SAYS_TOO = """\
EXISTS (
        SELECT 1
        FROM attribute_pairs AS also
        WHERE also.project = $2 AND also.pair = $n AND also.device = device.device)"""


class CurrentDevice(NamedTuple):
    """Holds a device's row; `last_seen_at_ms` may lag by 30 s."""

    state: DeviceState
    last_seen_at_ms: int | None


class Filter(NamedTuple):
    """Selects devices: each member that is not None narrows the list."""

    version: str | None = None
    model: str | None = None
    cohort: str | None = None
    tag: str | None = None
    failing: bool | None = None
    silent_since_ms: int | None = None
    """Only devices that were registered before then, and made no authenticated call since."""
    prefix: str | None = None
    """Only devices whose id begins so."""
    decommissioned: bool | None = False
    waiting: bool | None = None
    """Only devices that wait to be accepted or have a key that does, or only others."""
    pairs: tuple[str, ...] = ()
    """Only devices with the attributes that these digests stand for."""
    outdated: Outdated | None = None
    """The SQL excludes the devices that it can; the caller checks each row again with it."""


def load(log_id: int, generation: int, devices: Iterable[str]) -> Statement:
    """Reads the rows of the devices that exist; `states` decodes them."""
    return Statement(
        _LOAD, (log_id, generation), Given("device text", [(device,) for device in devices])
    )


async def models(db: Reader, log_id: int, devices: Iterable[str]) -> dict[str, str | None]:
    """Returns the models of those of these devices that exist."""
    given = Given("device text", [(device,) for device in devices])
    rows = await db.read(Statement(_MODELS, (log_id,), given))
    return {str(device): model for device, model in rows}


def states(rows: Iterable[Row]) -> dict[str, DeviceState]:
    return {state.device: state for state in map(_state, rows)}


def save(log_id: int, generation: int, changed: Iterable[DeviceState]) -> Statement:
    """Writes each device's row from its state, in the order of ids, so that neighbours share a
    page."""
    rows = [_row(state) for state in sorted(changed, key=attrgetter("device"))]
    return Statement(_SAVE, (log_id, generation), Given(_COLUMNS, rows))


def count_to(log_id: int, most: int) -> Statement:
    """Gives (number,) of the log's devices, and counts no further than `most`."""
    return Statement(_COUNT_TO, (log_id, most))


def load_live(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """Reads a row for each (log_id, device), after its `n`; `size_and_device` decodes it."""
    given = Given("n bigint, log_id bigint, device text", [(n, *key) for n, key in enumerate(keys)])
    return Statement(_ONE, (), given)


def size_and_device(rows: Sequence[Row]) -> tuple[int, CurrentDevice | None]:
    """Returns the log's size, and the device if it exists."""
    [[size, *row]] = rows
    return size, current_device(row) if row[1] is not None else None


async def page(
    db: Reader, head: tuple[int, str], which: Filter, *, after: str, limit: int
) -> tuple[int, list[CurrentDevice]]:
    """Returns the log's size and the next devices after `after`, by id. `head` is (log_id,
    project)."""
    conditions, args = _conditions(which, [*head, after])
    args.append(limit)
    place = "said.device" if which.pairs else "device.device"
    text = _LIST.format(
        devices=_SAYING if which.pairs else _ALL,
        conditions=" AND ".join([f"{place} > $3", *conditions]),
        place=place,
        limit=f"${len(args)}",
    )
    rows = await db.read(Statement(text, tuple(args)))
    return rows[0][0], [current_device(row[1:]) for row in rows if row[2] is not None]


async def count(db: Reader, head: tuple[int, str], which: Filter) -> int:
    """Returns how many devices the filter selects. Cells beyond those that a statement may name are
    counted separately and subtracted."""
    source = _SAYING if which.pairs else _ALL
    total = await _count(db, source, *_conditions(which, [*head]))
    unnamed = which.outdated.others[CELLS_MAX:] if which.outdated else ()
    for cells in batched(unnamed, CELLS_MAX):
        conditions, args = _conditions(which._replace(outdated=None), [*head])
        total -= await _count(db, source, [*conditions, _among(cells, args)], args)
    return total


async def count_failing(db: Reader, log_id: int, *, devices_max: int) -> int:
    """Returns how many devices fail, up to `devices_max`. Reads an index of these devices only."""
    [[found]] = await db.read(Statement(_COUNT_FAILING, (log_id, devices_max)))
    return int(found)


async def count_pending(db: Reader, log_id: int, *, devices_max: int) -> int:
    """Returns how many devices wait to be accepted, or have a key that does, up to a maximum."""
    [[found]] = await db.read(Statement(_COUNT_PENDING, (log_id, devices_max)))
    return int(found)


async def _count(db: Reader, devices: str, conditions: Sequence[str], args: Sequence[Value]) -> int:
    text = _COUNT.format(devices=devices, conditions=" AND ".join(["$2 = $2", *conditions]))
    [[total]] = await db.read(Statement(text, tuple(args)))
    return int(total)


def _conditions(which: Filter, args: list[Value]) -> tuple[list[str], list[Value]]:
    """Returns the SQL of the filter's members that are set, and `args` with their values added."""
    conditions: list[str] = []

    def add(condition: str, value: Value) -> None:
        args.append(value)
        conditions.append(condition.replace("$n", f"${len(args)}"))

    for column in ("version", "model", "cohort"):
        if (value := getattr(which, column)) is not None:
            add(f"device.{column} = $n", value)
    if which.tag is not None:
        add("device.tags <> replace(device.tags, $n, '')", f"|{which.tag}|")
    if which.failing is True:  # in these words, an index finds them
        conditions.append(f"device.{IS_FAILING}")
    if which.failing is False:
        conditions.append(f"coalesce(device.status, '') NOT IN {view.listed(FAILING)}")
    if which.silent_since_ms is not None:
        add(SILENT, which.silent_since_ms)
    if which.prefix is not None:
        add("device.device >= $n AND device.device < $n || '~'", which.prefix)
    if which.decommissioned is not None:
        add("device.decommissioned = $n", int(which.decommissioned))
    said = _saying(which.pairs, args)
    return [*said, *conditions, *_waiting(which.waiting), *_left_out(which.outdated, args)], args


def _waiting(wanted: bool | None) -> list[str]:  # noqa: FBT001 (a value to compare with)
    if wanted is None:
        return []
    return [WAITING if wanted else f"NOT {WAITING}"]


def _saying(pairs: Sequence[str], args: list[Value]) -> list[str]:
    """Returns the SQL that selects the devices with these attributes, for `_SAYING`."""
    first = len(args) + 1
    args += pairs
    numbers = [f"${n}" for n in range(first, first + len(pairs))]
    drives = [_SAYS.replace("$n", number) for number in numbers[:1]]
    return drives + [_SAYS_TOO.replace("$n", number) for number in numbers[1:]]


def _left_out(which: Outdated | None, args: list[Value]) -> list[str]:
    """Returns the SQL that excludes the cells in which no device is wanted."""
    if which is None or not which.others:
        return []
    return [f"NOT {_among(which.others[:CELLS_MAX], args)}"]


def _among(cells: Sequence[FleetCell], args: list[Value]) -> str:
    """Returns the SQL that selects the devices in these cells; adds the cells' names to `args`."""
    first = len(args) + 1
    args += [name for cell in cells for name in cell]
    values = ", ".join(f"(${n}, ${n + 1})" for n in range(first, len(args), 2))
    return f"(coalesce(device.model, ''), coalesce(device.version, '')) IN (VALUES {values})"


def current_device(row: Row) -> CurrentDevice:
    """Decodes the time of the device's last call, 0 for none, and the columns of `STATE`."""
    seen_at_ms, *columns = row
    state = _state(columns)
    last_seen_at_ms = max(seen_at_ms, state.recorded_at_ms or 0)
    return CurrentDevice(state, last_seen_at_ms or None)

"""Keeps the view of the current state of each device: the state that the rules fold, one row a
device."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
CROSS JOIN log_heads
LEFT JOIN device_current AS device
    ON device.log_id = given.log_id
    AND device.generation = {generation_of(NAME, "given.log_id")}
    AND device.device = given.device
LEFT JOIN device_seen AS seen
    ON seen.project = log_heads.project AND seen.device = given.device
WHERE log_heads.log_id = given.log_id"""


def _up_to(index: str = "", condition: str = "") -> str:
    """Returns the SQL that counts devices, and no further than $2."""
    return f"""\
SELECT count(*)
FROM (
    SELECT 1
    FROM device_current {index}
    WHERE log_id = $1 AND generation = {generation_of(NAME)} {condition}
    LIMIT $2) AS found"""


_COUNT_TO = _up_to()
_COUNT_FAILING = _up_to(
    "/*INDEXED BY device_current_failing*/", f"AND {IS_FAILING} AND decommissioned = 0"
)
_COUNT_PENDING = _up_to(
    "/*INDEXED BY device_current_waiting*/", "AND (pending = 1 OR offered_key IS NOT NULL)"
)


_SAYS = """\
EXISTS (
        SELECT 1
        FROM attribute_pairs AS also
        WHERE also.project = $2 AND also.pair = $n AND also.device = device.device)"""

_RECALLED = f"""\
(device.version = $version OR EXISTS (
        SELECT 1
        FROM device_offers AS offer
        WHERE offer.log_id = $1
            AND offer.generation = {generation_of("device_offers")}
            AND offer.source = $source
            AND offer.device = device.device))"""


_ENDED = f"""\
EXISTS (
        SELECT 1
        FROM device_offers AS ended
        WHERE ended.log_id = $1
            AND ended.generation = {generation_of("device_offers")}
            AND ended.source = $source
            AND ended.device = made.device
            AND coalesce(ended.outcome, '') = $outcome)"""


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
    recall: tuple[str, str] | None = None
    """(version, rollback): only devices that run this version, or that this rollback offered
    another one."""
    offered_by: str | None = None
    """Only devices to which this rollout has offered something. It goes with no `pairs`."""
    ended: tuple[str, str] | None = None
    """(rollout, outcome): only devices with an offer of this rollout that has this outcome, "" for
    none. It goes with `offered_by`."""
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


async def count_failing(db: Reader, log_id: int, *, devices_max: int) -> int:
    """Returns how many devices fail, up to `devices_max`. Reads an index of these devices only."""
    [[found]] = await db.read(Statement(_COUNT_FAILING, (log_id, devices_max)))
    return int(found)


async def count_pending(db: Reader, log_id: int, *, devices_max: int) -> int:
    """Returns how many devices wait to be accepted, or have a key that does, up to a maximum."""
    [[found]] = await db.read(Statement(_COUNT_PENDING, (log_id, devices_max)))
    return int(found)


def conditions(which: Filter, args: list[Value]) -> tuple[list[str], list[Value]]:
    """Returns the SQL of the filter's members that are set, and `args` with their values added."""
    found = []
    for condition, value in _compared(which):
        if value is not None:
            args.append(value)
            found.append(condition.replace("$n", f"${len(args)}"))
    found += _failing(which.failing)
    found += _waiting(which.waiting)
    for text, names, values in (
        (_RECALLED, ("$version", "$source"), which.recall),
        (_ENDED, ("$source", "$outcome"), which.ended),
    ):
        if values is not None:
            found.append(_with(text, dict(zip(names, values, strict=True)), args))
    return [*found, *_left_out(which.outdated, args)], args


def _compared(which: Filter) -> Iterator[tuple[str, Value]]:
    """Yields conditions with the value that each compares with; None: it is not set."""
    for column in ("version", "model", "cohort"):
        yield f"device.{column} = $n", getattr(which, column)
    tag = None if which.tag is None else f"|{which.tag}|"
    yield "device.tags <> replace(device.tags, $n, '')", tag
    yield SILENT, which.silent_since_ms
    yield "device.device >= $n AND device.device < $n || '~'", which.prefix
    is_away = None if which.decommissioned is None else int(which.decommissioned)
    yield "device.decommissioned = $n", is_away
    for pair in which.pairs:
        yield _SAYS, pair


def _failing(wanted: bool | None) -> list[str]:  # noqa: FBT001 (a value to compare with)
    if wanted is None:
        return []
    if wanted:  # in these words, an index finds them
        return [f"device.{IS_FAILING}"]
    return [f"coalesce(device.status, '') NOT IN {view.listed(FAILING)}"]


def _with(text: str, values: Mapping[str, str], args: list[Value]) -> str:
    """Returns the SQL with the numbers of these values for their names; adds them to `args`."""
    for name, value in values.items():
        args.append(value)
        text = text.replace(name, f"${len(args)}")
    return text


def _waiting(wanted: bool | None) -> list[str]:  # noqa: FBT001 (a value to compare with)
    if wanted is None:
        return []
    return [WAITING if wanted else f"NOT {WAITING}"]


def _left_out(which: Outdated | None, args: list[Value]) -> list[str]:
    """Returns the SQL that excludes the cells in which no device is wanted."""
    if which is None or not which.others:
        return []
    return [f"NOT {among(which.others[:CELLS_MAX], args)}"]


def among(cells: Sequence[FleetCell], args: list[Value]) -> str:
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

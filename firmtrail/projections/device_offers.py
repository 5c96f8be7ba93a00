"""The view of what devices were offered, how many attempts count, and how each offer went.

One row for each device, source and version that was ever offered: a device that was offered nothing
has none, and costs nothing. The column `source` holds the model too, where the source is a rule.

`rollout_counts` has, for each rollout, how many of the devices that it is meant for stand where: by
the outcome and the attempts of the last offer that it made to each. A device that is decommissioned
or moves away leaves its count, and enters it again as it comes back.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from firmtrail.database.database import Given, Reader, Row, Statement, Value
from firmtrail.projections.view import Table, generation_of
from firmtrail.rules.offer import Offer, source_key

NAME = "device_offers"
REVISION = 2
TABLES: tuple[Table, ...] = (
    Table(NAME, ("device", "source", "version")),
    Table("rollout_counts", ("rollout", "outcome", "attempts")),
)

STATE = """\
offer.device, offer.source, offer.version, offer.cause, offer.position, offer.offered_at_ms,
    offer.attempt, offer.attempts, offer.has_failed, offer.is_counted, offer.installing_place,
    offer.outcome, offer.outcome_position, offer.outcome_place, offer.silent_position, offer.model,
    offer.place, offer.cleared_place"""
"""An offer's columns, in the order of `Offer`."""

_LOAD = f"""\
SELECT {STATE}
FROM given
CROSS JOIN device_offers AS offer
WHERE offer.log_id = $1 AND offer.generation = {{generation}} AND offer.device = given.device"""

_SAVE = """\
INSERT INTO device_offers (
    log_id, generation, device, source, version, cause, position, offered_at_ms, attempt, attempts,
    has_failed, is_counted, installing_place, outcome, outcome_position, outcome_place,
    silent_position, model, place, cleared_place)
SELECT
    $1, $2, given.device, given.source, given.version, given.cause, given.position,
    given.offered_at_ms, given.attempt, given.attempts, given.has_failed, given.is_counted,
    given.installing_place, given.outcome, given.outcome_position, given.outcome_place,
    given.silent_position, given.model, given.place, given.cleared_place
FROM given
WHERE TRUE
ON CONFLICT (log_id, generation, device, source, version) DO UPDATE SET
    cause = excluded.cause,
    position = excluded.position,
    offered_at_ms = excluded.offered_at_ms,
    attempt = excluded.attempt,
    attempts = excluded.attempts,
    has_failed = excluded.has_failed,
    is_counted = excluded.is_counted,
    installing_place = excluded.installing_place,
    outcome = excluded.outcome,
    outcome_position = excluded.outcome_position,
    outcome_place = excluded.outcome_place,
    silent_position = excluded.silent_position,
    place = excluded.place,
    cleared_place = excluded.cleared_place"""

_COLUMNS = """\
device text, source text, version text, cause text, position bigint, offered_at_ms bigint, \
attempt bigint, attempts bigint, has_failed bigint, is_counted bigint, installing_place bigint, \
outcome text, outcome_position bigint, outcome_place bigint, silent_position bigint, model text, \
place bigint, cleared_place bigint"""

_COUNT = """\
INSERT INTO rollout_counts (log_id, generation, rollout, outcome, attempts, devices)
SELECT $1, $2, given.rollout, given.outcome, given.attempts, given.devices
FROM given
WHERE TRUE
ON CONFLICT (log_id, generation, rollout, outcome, attempts) DO UPDATE
SET devices = rollout_counts.devices + excluded.devices"""

_CELL_COLUMNS = "rollout text, outcome text, attempts bigint, devices bigint"

_COUNTS = f"""\
SELECT
    log_heads.size,
    coalesce(CAST(sum(cell.devices) AS bigint), 0),
    coalesce(CAST(sum(
        CASE WHEN cell.outcome = 'installed' THEN cell.devices ELSE 0 END) AS bigint), 0),
    coalesce(CAST(sum(
        CASE WHEN cell.outcome = 'failed' AND cell.attempts < $3 THEN cell.devices ELSE 0 END)
        AS bigint), 0),
    coalesce(CAST(sum(
        CASE WHEN cell.outcome <> 'installed' AND cell.attempts >= $3 THEN cell.devices ELSE 0 END)
        AS bigint), 0)
FROM log_heads
LEFT JOIN rollout_counts AS cell
    ON cell.log_id = $1
    AND cell.generation = {generation_of(NAME)}
    AND cell.rollout = $2
WHERE log_heads.log_id = $1
GROUP BY log_heads.size"""

_PENDING = f"""\
SELECT
    pending.device, pending.offered_at_ms, device.recorded_at_ms, seen.seen_at_ms,
    CASE WHEN device.decommissioned = 0 AND NOT EXISTS (
        SELECT 1
        FROM device_offers AS newer
        WHERE newer.log_id = $1
            AND newer.generation = {generation_of(NAME)}
            AND newer.device = pending.device
            AND newer.position > pending.position)
    THEN 1 ELSE 0 END
FROM (
    SELECT offer.device, offer.offered_at_ms, offer.position
    FROM device_offers AS offer
    WHERE offer.log_id = $1
        AND offer.generation = {generation_of(NAME)}
        AND offer.source = $2
        AND (offer.outcome IS NULL OR offer.outcome_position < offer.position)
        AND offer.offered_at_ms < $3
        AND (offer.offered_at_ms, offer.device) > ($4, $5)
    ORDER BY offer.offered_at_ms, offer.device
    LIMIT $6) AS pending
LEFT JOIN device_current AS device
    ON device.log_id = $1
    AND device.generation = {generation_of("device_current")}
    AND device.device = pending.device
LEFT JOIN device_seen AS seen
    ON seen.project = (SELECT project FROM log_heads WHERE log_id = $1)
    AND seen.device = pending.device
ORDER BY pending.offered_at_ms, pending.device"""


class Pending(NamedTuple):
    """A device whose offer has no outcome yet, and when it called."""

    device: str
    offered_at_ms: int
    recorded_at_ms: int | None
    seen_at_ms: int | None
    is_waited_for: int
    """1: the device is in use, and was offered nothing since."""


type Cell = tuple[str, str, int]
"""Where a device is counted: rollout, outcome ("" for none), attempts."""
type OfDevice = dict[tuple[str, str], Offer]
"""A device's offers by (source, version)."""


def load(log_id: int, generation: int, devices: Iterable[str]) -> Statement:
    """Reads the offers of those devices that have any; read it with `state`."""
    given = Given("device text", [(device,) for device in devices])
    return Statement(_LOAD.format(generation="$2"), (log_id, generation), given)


async def live(db: Reader, log_id: int, devices: Iterable[str]) -> dict[str, OfDevice]:
    """Returns the offers of these devices as they are."""
    given = Given("device text", [(device,) for device in devices])
    return state(
        await db.read(Statement(_LOAD.format(generation=generation_of(NAME)), (log_id,), given))
    )


def state(rows: Iterable[Row]) -> dict[str, OfDevice]:
    found: dict[str, OfDevice] = {}
    for row in rows:
        offer = of_row(row)
        found.setdefault(offer.device, {})[offer.key] = offer
    return found


def of_row(row: Row) -> Offer:
    columns = list(row)
    columns[1] = row[1].partition("/")[0]
    columns[8:10] = bool(row[8]), bool(row[9])
    return Offer(*columns)


def save(log_id: int, generation: int, changed: Iterable[Offer]) -> Statement:
    rows = sorted((_row(offer) for offer in changed), key=lambda row: row[:3])
    return Statement(_SAVE, (log_id, generation), Given(_COLUMNS, rows))


def cell_of(last: Offer | None) -> Cell | None:
    """Returns the cell of a device whose last offer of a rollout this is."""
    return None if last is None else (last.source, last.outcome or "", last.attempts)


def count(log_id: int, generation: int, changes: Mapping[Cell, int]) -> Statement:
    """Adds to each cell; also 0, so that the rows do not depend on where commits end."""
    rows = [(*cell, devices) for cell, devices in sorted(changes.items())]
    return Statement(_COUNT, (log_id, generation), Given(_CELL_COLUMNS, rows))


def _row(offer: Offer) -> tuple[Any, ...]:
    device, _, *columns = msgspec.structs.astuple(offer)
    values = (int(value) if isinstance(value, bool) else value for value in columns)
    return device, source_key(offer), *values


async def counts(
    db: Reader, log_id: int, source: str, max_attempts: int
) -> tuple[int, Mapping[str, int]]:
    """Returns the log's size, and how many of the devices that a rollout is meant for it was
    offered to, by how that went."""
    args: tuple[Value, ...] = (log_id, source, max_attempts)
    [[size, *found]] = await db.read(Statement(_COUNTS, args))
    names = ("offered", "installed", "failed", "exhausted")
    return size, dict(zip(names, map(int, found), strict=True))


async def pending(
    db: Reader, log_id: int, source: str, *, after: tuple[int, str], before_ms: int, limit: int
) -> list[Pending]:
    """Returns the next offers of a rollout without an outcome, by when they were made: those after
    this (time, device), and before this time."""
    args: tuple[Value, ...] = (log_id, source, before_ms, *after, limit)
    return [Pending(*row) for row in await db.read(Statement(_PENDING, args))]

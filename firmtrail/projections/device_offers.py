"""Keeps the view of the offers to devices, how many attempts count, and how each offer ended.

It has one row for each device, source and version that was ever offered; a device that was offered
nothing has none, and costs nothing. Where the source is a rule, the column `source` includes the
model.

`rollout_counts` counts, for each rollout, the devices that it is meant for by the outcome and the
attempts of the last offer that it made to each. A device that is decommissioned or moves to another
model, cohort or tag leaves its count, and enters it again when it comes back. `recalled_devices`
counts, for each rollback, those of these devices that do not run its bad version: with the devices
that run it, they are all that the rollback is meant for.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import astuple

from firmtrail.database.database import Given, Reader, Row, Statement, Value
from firmtrail.projections import view
from firmtrail.projections.view import Column, Table, columns_of, generation_of
from firmtrail.rules.offer import Offer, source_key

NAME = "device_offers"
REVISION = 4
OFFERS = Table(
    NAME,
    ("device", "source", "version"),
    columns_of("""
        device text, source text, version text, cause text, position bigint, offered_at_ms bigint,
        attempt bigint, attempts bigint, has_failed flag, is_counted flag, installing_place bigint,
        outcome text, outcome_position bigint, outcome_place bigint, silent_position bigint,
        model text fixed, place bigint, cleared_place bigint, ordinal bigint,
        earlier_ordinals ordinals, ending text"""),
)
"""Its columns are the members of `Offer`, in their order."""
COUNTS = Table(
    "rollout_counts",
    ("rollout", "outcome", "attempts"),
    columns_of("rollout text, outcome text, attempts bigint, devices bigint"),
)
RECALLED = Table("recalled_devices", ("rollout",), columns_of("rollout text, devices bigint"))
TABLES: tuple[Table, ...] = (OFFERS, COUNTS, RECALLED)

_members = view.encoder(OFFERS.columns, astuple)
_source = Column("text", load=lambda stored: stored.partition("/")[0])
offer_of = view.decoder(OFFERS.columns | {"source": _source}, Offer)

STATE = view.selected(OFFERS.columns, "offer")

_LOAD = f"""\
SELECT {STATE}
FROM given
CROSS JOIN device_offers AS offer
WHERE offer.log_id = $1 AND offer.generation = {{generation}} AND offer.device = given.device"""

_SAVE = view.upsert(OFFERS)
_COLUMNS = view.typed(OFFERS.columns)

_COUNT = f"""\
{view.insert(COUNTS)}
ON CONFLICT (log_id, generation, rollout, outcome, attempts) DO UPDATE
SET devices = rollout_counts.devices + excluded.devices"""

_COUNT_COLUMNS = view.typed(COUNTS.columns)

_COUNT_RECALLED = f"""\
{view.insert(RECALLED)}
ON CONFLICT (log_id, generation, rollout) DO UPDATE
SET devices = recalled_devices.devices + excluded.devices"""

_RECALLED = f"""\
SELECT devices
FROM recalled_devices
WHERE log_id = $1 AND generation = {generation_of(NAME)} AND rollout = $2"""

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

_WAITING = f"""\
SELECT coalesce(CAST(sum(cell.devices) AS bigint), 0)
FROM rollout_counts AS cell
WHERE cell.log_id = $1 AND cell.generation = {generation_of(NAME)} AND cell.outcome = ''"""

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
        AND (offer.ending IS NULL OR offer.ending <> 'cancelled')
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
    """Holds a device whose offer has no outcome yet, and the times of its last report and call."""

    device: str
    offered_at_ms: int
    recorded_at_ms: int | None
    seen_at_ms: int | None
    is_waited_for: int
    """1: the device is in use, and has been offered nothing since."""


type RolloutCell = tuple[str, str, int]
"""The row of `rollout_counts` that counts a device: rollout, outcome ("" for none), attempts."""
type DeviceOffers = dict[tuple[str, str], Offer]
"""A device's offers by (source, version)."""


def load(log_id: int, generation: int, devices: Iterable[str]) -> Statement:
    """Reads the offers of these devices; `state` decodes them."""
    given = Given("device text", [(device,) for device in devices])
    return Statement(_LOAD.format(generation="$2"), (log_id, generation), given)


async def live(db: Reader, log_id: int, devices: Iterable[str]) -> dict[str, DeviceOffers]:
    """Returns the offers of these devices as they are now."""
    given = Given("device text", [(device,) for device in devices])
    return state(
        await db.read(Statement(_LOAD.format(generation=generation_of(NAME)), (log_id,), given))
    )


def state(rows: Iterable[Row]) -> dict[str, DeviceOffers]:
    found: dict[str, DeviceOffers] = {}
    for row in rows:
        offer = offer_of(row)
        found.setdefault(offer.device, {})[offer.key] = offer
    return found


def save(log_id: int, generation: int, changed: Iterable[Offer]) -> Statement:
    rows = sorted((_row(offer) for offer in changed), key=lambda row: row[:3])
    return Statement(_SAVE, (log_id, generation), Given(_COLUMNS, rows))


def cell_of(last: Offer | None) -> RolloutCell | None:
    """Returns the cell that counts a device whose last offer of a rollout is this one."""
    return None if last is None else (last.source, last.outcome or "", last.attempts)


def count(log_id: int, generation: int, changes: Mapping[RolloutCell, int]) -> Statement:
    """Adds the change to each cell, including 0, so that the rows do not depend on where commits
    end."""
    rows = [(*cell, devices) for cell, devices in sorted(changes.items())]
    return Statement(_COUNT, (log_id, generation), Given(_COUNT_COLUMNS, rows))


def count_recalled(log_id: int, generation: int, changes: Mapping[str, int]) -> Statement:
    """Adds the change to the count of each rollback, including 0."""
    given = Given(view.typed(RECALLED.columns), sorted(changes.items()))
    return Statement(_COUNT_RECALLED, (log_id, generation), given)


def _row(offer: Offer) -> list[Value]:
    row = _members(offer)
    row[1] = source_key(offer)
    return row


async def counts(
    db: Reader, log_id: int, source: str, max_attempts: int
) -> tuple[int, Mapping[str, int]]:
    """Returns the log's size, and how many of the devices that the rollout is meant for got an
    offer, by its outcome."""
    args: tuple[Value, ...] = (log_id, source, max_attempts)
    [[size, *found]] = await db.read(Statement(_COUNTS, args))
    names = ("offered", "installed", "failed", "exhausted")
    return size, dict(zip(names, map(int, found), strict=True))


async def recalled(db: Reader, log_id: int, rollback: str) -> int:
    """Returns how many of the devices that a rollback is meant for got an offer of it and do not
    run its bad version."""
    rows = await db.read(Statement(_RECALLED, (log_id, rollback)))
    return int(rows[0][0]) if rows else 0


async def count_waiting(db: Reader, log_id: int) -> int:
    """Returns how many devices have an offer of a rollout without an outcome. A device counts once
    for each rollout."""
    [[found]] = await db.read(Statement(_WAITING, (log_id,)))
    return int(found)


async def pending(
    db: Reader, log_id: int, source: str, *, after: tuple[int, str], before_ms: int, limit: int
) -> list[Pending]:
    """Returns the next offers of a rollout without an outcome, the oldest first: those made after
    this (time, device) and before `before_ms`."""
    args: tuple[Value, ...] = (log_id, source, before_ms, *after, limit)
    return [Pending(*row) for row in await db.read(Statement(_PENDING, args))]

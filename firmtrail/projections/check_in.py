"""Reads what a check-in needs: the device, its offers, its open question and its target.

Concurrent check-ins share one query. It returns the log's count of control events, so the project's
`Control` is read again only when that count has changed.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from firmtrail.database.database import Given, Reader, Row, Statement, Value
from firmtrail.projections import device_current, device_history, device_offers, history_lines
from firmtrail.projections.device_asks import OPEN
from firmtrail.projections.view import generation_of
from firmtrail.rules import offer, target
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.offer import Offers
from firmtrail.rules.previous import previous
from firmtrail.rules.situation import Situation

_SAID = """
LEFT JOIN reported_attributes AS said
    ON said.project = log_heads.project AND said.device = given.device"""


def _look(more: str = "", joined: str = "") -> str:
    """Returns the SQL of a look at devices, with more columns and the join that has them."""
    return f"""\
SELECT
    given.n, log_heads.size, log_heads.control_count, log_heads.nudge_count, ({OPEN}),
    coalesce(seen.seen_at_ms, 0),
    {device_current.STATE},
    {device_offers.STATE}{more}
FROM given
CROSS JOIN log_heads
LEFT JOIN device_current AS device
    ON device.log_id = given.log_id
    AND device.generation = {generation_of(device_current.NAME, "given.log_id")}
    AND device.device = given.device
LEFT JOIN device_seen AS seen
    ON seen.project = log_heads.project AND seen.device = given.device
LEFT JOIN device_offers AS offer
    ON offer.log_id = given.log_id
    AND offer.generation = {generation_of(device_offers.NAME, "given.log_id")}
    AND offer.device = given.device{joined}
WHERE log_heads.log_id = given.log_id"""


_LOOK = _look()
_LOOK_SAYING = _look(",\n    said.data", _SAID)
_LOOK_POLLING = _look(",\n    said.changed_at_ms", _SAID)

_SAYING = """\
SELECT given.n, said.data
FROM given
JOIN log_heads ON log_heads.log_id = given.log_id
JOIN reported_attributes AS said
    ON said.project = log_heads.project AND said.device = given.device"""

_QUESTION, _SEEN, _DEVICE = 3, 4, 5
_OFFER = _DEVICE + len(device_current.STATE.split(","))
_OFFERS = slice(_OFFER, _OFFER + len(device_offers.STATE.split(",")))
"""The indices of columns in a row of `_LOOK`, without its `n`."""


class _Saying(Struct, frozen=True, gc=False):
    """Holds the attribute of a device that decides when a window opens."""

    timezone: str | None = None


_saying = msgspec.json.Decoder(_Saying).decode


class LogCounts(Struct, frozen=True, gc=False):
    """Holds the counts of a log that a device watches while it waits for an answer."""

    size: int
    control: int
    nudge: int


class DeviceAtCheckIn(Struct, frozen=True, gc=False):
    """Holds a device as one statement reads it."""

    counts: LogCounts
    question: str | None
    """The oldest open question."""
    state: DeviceState | None
    offers: Offers
    last_seen_at_ms: int | None
    attributes: str | None = None
    """The pairs that the device says of itself, as a JSON object, if they were read; None: none."""
    said_at_ms: int | None = None
    """The time at which it last said something else of itself, if that was read; None: never."""


def load(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """Reads rows for each (log_id, device), each after its `n`; `device_of` decodes those of one
    device."""
    return Statement(_LOOK, (), _given(keys))


def _given(keys: Sequence[tuple[Value, ...]]) -> Given:
    return Given("n bigint, log_id bigint, device text", [(n, *key) for n, key in enumerate(keys)])


def load_saying(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """Reads what `load` reads, and what the device says of itself; `device_saying` decodes it."""
    return load(keys)._replace(text=_LOOK_SAYING)


def device_saying(rows: Sequence[Row]) -> DeviceAtCheckIn:
    """Returns the device that these rows of `load_saying` are about."""
    return device_of(rows, attributes=rows[0][-1])


def load_polling(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """Reads what `load` reads, and when the device last said something else of itself;
    `device_polling` decodes it."""
    return load(keys)._replace(text=_LOOK_POLLING)


def device_polling(rows: Sequence[Row]) -> DeviceAtCheckIn:
    """Returns the device that these rows of `load_polling` are about."""
    return device_of(rows, said_at_ms=rows[0][-1])


def device_of(
    rows: Sequence[Row], attributes: str | None = None, said_at_ms: int | None = None
) -> DeviceAtCheckIn:
    """Returns the device that these rows of `load` are about, with what it says of itself."""
    first = rows[0]
    counts = LogCounts(*first[:_QUESTION])
    if first[_DEVICE] is None:
        return DeviceAtCheckIn(counts, None, None, (), None, attributes, said_at_ms)
    state, last_seen_at_ms = device_current.current_device(first[_SEEN:_OFFER])
    made = [device_offers.offer_of(row[_OFFERS]) for row in rows if row[_OFFER] is not None]
    return DeviceAtCheckIn(
        counts, first[_QUESTION], state, made, last_seen_at_ms, attributes, said_at_ms
    )


async def cases(
    db: Reader,
    log_id: int,
    control: Control,
    devices: Iterable[tuple[DeviceState, Offers]],
    *,
    now_ms: int,
) -> list[Situation]:
    """Returns the devices' cases, with the time zone of each where a window opens by it, and with
    the previous version where a rollback needs it."""
    of_devices = list(devices)
    names = [state.device for state, _ in of_devices] if control.asks_for_zones else []
    said = await zones(db, log_id, names)
    found = [
        Situation(
            control, state, offer.of_model(offers, state.model), now_ms, said.get(state.device)
        )
        for state, offers in of_devices
    ]
    wanted = [way for case in found if (way := target.runs_wanted(case))]
    if not wanted:
        return found
    keys = [(log_id, *each, history_lines.END) for each in wanted]
    runs = device_history.runs_of(wanted, await db.read(device_history.runs(keys)))
    return [with_way_back(case, runs) for case in found]


async def zones(db: Reader, log_id: int, devices: Sequence[str]) -> dict[str, str | None]:
    """Returns the time zones that these devices say they are in, in one query. Reads nothing if
    there are no devices; a device without attributes is left out."""
    if not devices:
        return {}
    rows = await db.read(load_zones([(log_id, each) for each in devices]))
    return {devices[n]: _saying(data).timezone for n, data in rows}


def load_zones(keys: Sequence[tuple[Value, ...]]) -> Statement:
    """Reads a row for each (log_id, device) that says something of itself, after its `n`; `zone_of`
    decodes those of one device."""
    return Statement(_SAYING, (), _given(keys))


def zone_of(rows: Sequence[Row]) -> str | None:
    """Returns the time zone that a device says it is in."""
    return _saying(rows[0][0]).timezone if rows else None


def with_way_back(case: Situation, runs: device_history.Runs) -> Situation:
    """Returns the case with the device's previous version, where a rollback asks for it."""
    wanted = target.runs_wanted(case)
    if wanted is None:
        return case
    model, ran = case.device.model or "", runs.get(wanted, [])
    return replace(case, previous=previous(case.control, model, ran, case.offers))


async def targets(
    db: Reader, log_id: int, control: Control, states: Sequence[DeviceState], *, now_ms: int
) -> Mapping[str, str]:
    """Returns the version that each device should run; devices without one are left out."""
    if not control.releases:
        return {}
    active = [state for state in states if not state.decommissioned]
    offers = await device_offers.live(db, log_id, [state.device for state in active])
    offered = [(state, list(offers.get(state.device, {}).values())) for state in active]
    decided = {
        case.device.device: target.decide(case).version
        for case in await cases(db, log_id, control, offered, now_ms=now_ms)
    }
    return {device: version for device, version in decided.items() if version is not None}

"""Decides what a device should run, and reports the size of the log that the decision is for.

An answer that names a size of the log is consistent: it shows exactly what the first N events mean,
and the control that decides is that of the same N. If an answer takes several statements,
`consistent_read` opens one snapshot for all of them. Requests for one device are many, so they
share their queries. They read again in the rare case that the control has moved in between.

`recorded_decision` answers a check-in, in whatever protocol the device speaks.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from firmtrail.database.coalesce import Coalescer
from firmtrail.database.database import Reader, Row, Statement, Unavailable, Value
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import NotFound
from firmtrail.projections import check_in, device_history
from firmtrail.projections.check_in import DeviceAtCheckIn
from firmtrail.recording.check_ins import CheckIn
from firmtrail.rules import offer, target
from firmtrail.rules.artifact import NATIVE, Protocol
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState, device_decommissioned
from firmtrail.rules.situation import Decision, Situation, with_running

SHARED_READS_MAX = 5
"""Limits the attempts to read a device in shared queries, before a request reads it alone.

All attempts also fail if an older copy of the database was put in place, whose control has
fewer events than this process knows."""

RECORDED_KINDS = frozenset({"device", "gateway"})
"""Callers whose check-ins are recorded as offers; a user only looks."""


class ConsistentRead(NamedTuple):
    """Holds a project at one size of its log; `reader` reads that state until the block ends."""

    reader: Reader
    size: int
    control: Control


class KnownDevice(Struct, frozen=True, gc=False):
    """Holds a device and the control at the same size of the log, before anything is decided."""

    seen: DeviceAtCheckIn
    state: DeviceState
    control: Control


class DecidedDevice(Struct, frozen=True, gc=False):
    """Holds a device, and the decision about it."""

    seen: DeviceAtCheckIn
    state: DeviceState
    case: Situation
    decision: Decision


@contextlib.asynccontextmanager
async def consistent_read(
    call: AnyCall, reading: AbstractAsyncContextManager[Reader] | None = None
) -> AsyncIterator[ConsistentRead]:
    """Opens a consistent read of the project. The block must be short, unless `reading` is a
    snapshot that the caller opened."""
    async with reading or call.db.moment() as reader:
        head, control = await call.services.recorder.controls.at_moment(reader, call.log_id)
        yield ConsistentRead(reader, head.size, control)


class _Look(NamedTuple):
    """Reads a device alone with `load`; `decode` takes its rows, and those of shared queries."""

    load: Callable[[Sequence[tuple[Value, ...]]], Statement]
    decode: Callable[[Sequence[Row]], DeviceAtCheckIn]


_PLAIN = _Look(check_in.load, check_in.device_of)
_SAYING = _Look(check_in.load_saying, check_in.device_saying)
_POLLING = _Look(check_in.load_polling, check_in.device_polling)

type DeviceAndControl = Awaitable[tuple[DeviceAtCheckIn, Control]]


def device_and_control(call: AnyCall, name: str) -> DeviceAndControl:
    """Returns a device, and the control at the same size of the log."""
    return _device_and_control(call, name, call.services.queries.check_ins, _PLAIN)


def device_saying_and_control(call: AnyCall, name: str) -> DeviceAndControl:
    """Returns a device with its attributes, and the control at the same size of the log."""
    return _device_and_control(call, name, call.services.queries.saying, _SAYING)


def device_polling_and_control(call: AnyCall, name: str) -> DeviceAndControl:
    """Returns a device, when it last said something else of itself, and the control at the same
    size of the log."""
    return _device_and_control(call, name, call.services.queries.polling, _POLLING)


async def _device_and_control(
    call: AnyCall, name: str, shared: Coalescer[tuple[int, str]], look: _Look
) -> tuple[DeviceAtCheckIn, Control]:
    log_id, controls = call.log_id, call.services.recorder.controls
    for _ in range(SHARED_READS_MAX):
        seen = look.decode(await shared.get((log_id, name)))
        control = await controls.at(log_id, seen.counts.control)
        if control.count == seen.counts.control:
            return seen, control
    async with consistent_read(call) as now:
        rows = await now.reader.read(look.load([(log_id, name)]))
        return look.decode([row[1:] for row in rows]), now.control


async def case_of(
    call: AnyCall,
    control: Control,
    state: DeviceState,
    seen: DeviceAtCheckIn,
    *,
    protocol: Protocol = NATIVE,
) -> Situation:
    """Returns the device's case at the same size of the log. If a rollback needs to know what the
    device ran before, the case includes it."""
    now_ms = call.services.access.now_ms()
    zone = await _timezone(call, state.device) if control.asks_for_zones else None
    offers = offer.of_model(seen.offers, state.model)
    case = Situation(control, state, offers, now_ms, zone, protocol=protocol)
    wanted = target.runs_wanted(case)
    if wanted is None:
        return case
    rows = await call.services.queries.ways_back.get((call.log_id, *wanted, seen.counts.size))
    runs = device_history.runs_of([wanted], [(0, *row) for row in rows])
    return check_in.with_way_back(case, runs)


async def _timezone(call: AnyCall, device: str) -> str | None:
    """Returns the time zone that the device says it is in."""
    return check_in.zone_of(await call.services.queries.zones.get((call.log_id, device)))


async def known_device(call: AnyCall, *, protocol: Protocol = NATIVE) -> KnownDevice:
    """Returns the device of the path. Raises `NotFound` or `Refused` if it is unknown or
    decommissioned. In another protocol than Firmtrail's own it has the time at which it last said
    something else of itself."""
    name = call.path("device")
    read = device_and_control if protocol == NATIVE else device_polling_and_control
    seen, control = await read(call, name)
    if seen.state is None:
        raise NotFound(f"There is no device {name}.")
    if seen.state.decommissioned:
        raise device_decommissioned(name)
    return KnownDevice(seen, seen.state, control)


async def decide(
    call: AnyCall, known: KnownDevice, running: str | None = None, *, protocol: Protocol = NATIVE
) -> DecidedDevice:
    """Returns the decision about a device, for the version that it runs."""
    state = with_running(known.state, running)
    case = await case_of(call, known.control, state, known.seen, protocol=protocol)
    return DecidedDevice(known.seen, known.state, case, target.decide(case))


async def look_at(
    call: AnyCall, running: str | None = None, *, protocol: Protocol = NATIVE
) -> DecidedDevice:
    """Returns the device of the path, with the decision for the version that it runs."""
    known = await known_device(call, protocol=protocol)
    return await decide(call, known, running, protocol=protocol)


async def recorded_decision(
    call: AnyCall, running: str | None, *, protocol: Protocol = NATIVE
) -> DecidedDevice:
    """Returns the decision for a client of the protocol; it is recorded first if it offers the
    device something new."""
    known = await known_device(call, protocol=protocol)
    decided = await decide(call, known, running, protocol=protocol)
    return await recorded(call, decided, running) if _is_news(call, decided) else decided


async def recorded(call: AnyCall, decided: DecidedDevice, running: str | None) -> DecidedDevice:
    """Records a decision that offers the device something new, and returns it.

    After recording, the device is read again: the answer shows the log at exactly the size it
    names.
    """
    protocol = decided.case.protocol
    for _ in range(SHARED_READS_MAX):
        if not _is_news(call, decided):
            return decided
        device, actor, timezone = decided.state.device, call.caller.actor, decided.case.timezone
        wanted = CheckIn(device, actor, running, timezone, protocol=protocol)
        made = await call.services.recorder.check_in(call.log_id, wanted)
        again = await look_at(call, running, protocol=protocol)
        if made.version is not None and made.version != again.decision.version:
            return _as_recorded(decided, again, made)
        decided = again
    raise Unavailable("the decision about this device keeps changing", retry_after_s=1)


def _as_recorded(first: DecidedDevice, again: DecidedDevice, made: Decision) -> DecidedDevice:
    """Returns the decision that was recorded, though a newer one has replaced it since.

    The device learns what the log says it was offered, as of that event. If it then waits, it gets
    the newer decision immediately, because it waits from the counts before that.
    """
    position = max(
        each.position
        for each in again.seen.offers
        if (each.source, each.version) == (made.source, made.version)
    )
    counts = replace(first.seen.counts, size=position + 1)
    return replace(again, decision=made, seen=replace(again.seen, counts=counts))


def _is_news(call: AnyCall, decided: DecidedDevice) -> bool:
    decision = decided.decision
    if decision.version is None or call.request.method == "HEAD":
        return False
    if call.caller.kind not in RECORDED_KINDS:
        return False
    return not offer.is_made(decided.case.offers, decision.source, decision.version)

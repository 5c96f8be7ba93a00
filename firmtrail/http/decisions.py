"""Decides what a device should run, and says as of which size of the log the views say so.

An answer that says how far the log was read is made of one moment: what it shows is exactly what
the log's first N events mean, and what decides is that of the same N. Where several statements are
needed, `moment` gives a reader of one snapshot. Requests for one device are many: they share their
queries, and look again in the rare case that what decides has moved meanwhile.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from firmtrail.database.database import Reader
from firmtrail.http.call import AnyCall
from firmtrail.projections import check_in, device_history
from firmtrail.projections.check_in import DeviceAtCheckIn
from firmtrail.rules import target
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.target import Situation

LOOKS_MAX = 5
"""How often a device is looked at in queries that requests share, before a read of its own: also
where the database was exchanged for an older one, of which less decides than this process knows."""


class Moment(NamedTuple):
    """A project at one moment; `reader` reads it as long as the block lasts."""

    reader: Reader
    size: int
    control: Control


@contextlib.asynccontextmanager
async def moment(
    call: AnyCall, reading: AbstractAsyncContextManager[Reader] | None = None
) -> AsyncIterator[Moment]:
    """The project as it is. The block is short, unless `reading` is a snapshot of the caller's."""
    async with reading or call.services.db.moment() as reader:
        head, control = await call.services.recorder.controls.at_moment(reader, call.log_id)
        yield Moment(reader, head.size, control)


async def look(call: AnyCall, name: str) -> tuple[DeviceAtCheckIn, Control]:
    """A device, and what decided at the same size of the log."""
    services = call.services
    for _ in range(LOOKS_MAX):
        seen = check_in.device_of(await services.check_ins.get((call.log_id, name)))
        control = await services.recorder.controls.at(call.log_id, seen.counts.control)
        if control.count == seen.counts.control:
            return seen, control
    async with moment(call) as now:
        rows = await now.reader.read(check_in.load([(call.log_id, name)]))
        return check_in.device_of([row[1:] for row in rows]), now.control


async def case_of(
    call: AnyCall, control: Control, state: DeviceState, seen: DeviceAtCheckIn
) -> Situation:
    """The device's case, with its way back where a rollback asks for it, at the same size."""
    case = Situation(control, state, seen.offers)
    wanted = target.runs_wanted(case)
    if wanted is None:
        return case
    rows = await call.services.ways_back.get((call.log_id, *wanted, seen.counts.size))
    runs = device_history.runs_of([wanted], [(0, *row) for row in rows])
    return check_in.with_way_back(case, runs)

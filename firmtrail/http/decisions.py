"""Decides what a device should run, and reports the size of the log that the decision is for.

An answer that names a size of the log is consistent: it shows exactly what the first N events mean,
and the control that decides is that of the same N. If an answer takes several statements,
`consistent_read` opens one snapshot for all of them. Requests for one device are many, so they
share their queries. They read again in the rare case that the control has moved in between.
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

SHARED_READS_MAX = 5
"""Limits the attempts to read a device in shared queries, before a request reads it alone.

All attempts also fail if an older copy of the database was put in place, whose control has
fewer events than this process knows."""


class ConsistentRead(NamedTuple):
    """Holds a project at one size of its log; `reader` reads that state until the block ends."""

    reader: Reader
    size: int
    control: Control


@contextlib.asynccontextmanager
async def consistent_read(
    call: AnyCall, reading: AbstractAsyncContextManager[Reader] | None = None
) -> AsyncIterator[ConsistentRead]:
    """Opens a consistent read of the project. The block must be short, unless `reading` is a
    snapshot that the caller opened."""
    async with reading or call.services.db.moment() as reader:
        head, control = await call.services.recorder.controls.at_moment(reader, call.log_id)
        yield ConsistentRead(reader, head.size, control)


async def device_and_control(call: AnyCall, name: str) -> tuple[DeviceAtCheckIn, Control]:
    """Returns a device, and the control at the same size of the log."""
    services = call.services
    for _ in range(SHARED_READS_MAX):
        seen = check_in.device_of(await services.check_ins.get((call.log_id, name)))
        control = await services.recorder.controls.at(call.log_id, seen.counts.control)
        if control.count == seen.counts.control:
            return seen, control
    async with consistent_read(call) as now:
        rows = await now.reader.read(check_in.load([(call.log_id, name)]))
        return check_in.device_of([row[1:] for row in rows]), now.control


async def case_of(
    call: AnyCall, control: Control, state: DeviceState, seen: DeviceAtCheckIn
) -> Situation:
    """Returns the device's case at the same size of the log. If a rollback needs to know what the
    device ran before, the case includes it."""
    case = Situation(control, state, seen.offers)
    wanted = target.runs_wanted(case)
    if wanted is None:
        return case
    rows = await call.services.ways_back.get((call.log_id, *wanted, seen.counts.size))
    runs = device_history.runs_of([wanted], [(0, *row) for row in rows])
    return check_in.with_way_back(case, runs)

"""What should a device run? As the views say now; concurrent requests share their queries."""

from firmtrail.device import DeviceState
from firmtrail.eventstore import log
from firmtrail.http.call import AnyCall
from firmtrail.projections import check_in, device_history
from firmtrail.steering import target
from firmtrail.steering.control import Control
from firmtrail.steering.offer import Offers
from firmtrail.steering.target import Case


async def control_of(call: AnyCall) -> Control:
    """What decides in the project now."""
    head = await log.head(call.services.db, call.log_id)
    return await call.services.recorder.controls.at(call.log_id, head.control_count)


async def case_of(call: AnyCall, control: Control, state: DeviceState, offers: Offers) -> Case:
    """The device's case, with its way back where a rollback asks for it."""
    case = Case(control, state, offers)
    wanted = target.way_wanted(case)
    if wanted is None:
        return case
    rows = await call.services.ways_back.get((call.log_id, *wanted))
    runs = device_history.runs_of([wanted], [(0, *row) for row in rows])
    return check_in.with_way_back(case, runs)

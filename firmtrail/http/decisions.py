"""What should one device run? As the views say now; concurrent requests share their queries."""

from firmtrail.device import DeviceState
from firmtrail.http.call import AnyCall
from firmtrail.projections import check_in, device_history
from firmtrail.steering import target
from firmtrail.steering.control import Control
from firmtrail.steering.offer import Offers
from firmtrail.steering.target import Case


async def case_of(call: AnyCall, control: Control, state: DeviceState, offers: Offers) -> Case:
    """The device's case, with its way back where a rollback asks for it."""
    case = Case(control, state, offers)
    wanted = target.way_wanted(case)
    if wanted is None:
        return case
    rows = await call.services.ways_back.get((call.log_id, *wanted))
    runs = device_history.runs_of([wanted], [(0, *row) for row in rows])
    return check_in.with_way_back(case, runs)

"""Finds the devices that a rollout is meant for, each in exactly one state.

The state of a device follows from its decision, so it is computed for each device that is looked
at. A page therefore looks at a bounded number of devices, whatever the fleet's size.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead
from firmtrail.http.lists import PAGE_ITEMS_MAX
from firmtrail.projections import check_in, device_offers, rollout_devices
from firmtrail.rules import progress
from firmtrail.rules.device import DeviceState
from firmtrail.rules.progress import DeviceProgress, ProgressState
from firmtrail.rules.rollout import RolloutState

BATCHES_MAX = 10
"""Limits the batches of 500 devices that are read to fill one page. If few devices are in the state
asked for, a page may hold fewer than `limit`, or none, and still name a next page."""


class RolloutDeviceState(NamedTuple):
    """Holds a device that a rollout is meant for, and its state in the rollout."""

    state: DeviceState
    last_seen_at_ms: int | None
    progress: DeviceProgress


class RolloutPage(NamedTuple):
    """Holds some devices of a rollout; `last` is the device after which the next page begins."""

    devices: list[RolloutDeviceState]
    last: str | None


async def page(
    call: AnyCall,
    now: ConsistentRead,
    rollout: RolloutState,
    *,
    wanted: ProgressState | None,
    after: str,
    limit: int,
) -> RolloutPage:
    """Returns the next devices after `after`, by id, that are in the state asked for."""
    items: list[RolloutDeviceState] = []
    for _ in range(BATCHES_MAX):
        batch = await _batch(call, now, rollout, after)
        items += [each for each in batch.devices if wanted in {None, each.progress.state}]
        if batch.last is None or len(items) > limit:
            more = items[limit - 1].state.device if len(items) > limit else None
            return RolloutPage(items[:limit], more)
        after = batch.last
    return RolloutPage(items, after)


async def _batch(
    call: AnyCall, now: ConsistentRead, rollout: RolloutState, after: str
) -> RolloutPage:
    """Returns the next devices; `last` is None if no more follow."""
    reader, control, log_id = now.reader, now.control, call.log_id
    now_ms = call.services.access.now_ms()
    found = await rollout_devices.page(reader, log_id, rollout, after=after, limit=PAGE_ITEMS_MAX)
    offers = await device_offers.live(reader, log_id, [state.device for state, _ in found])
    with_offers = [(state, list(offers.get(state.device, {}).values())) for state, _ in found]
    cases = await check_in.cases(reader, log_id, control, with_offers, now_ms=now_ms)
    devices = [
        RolloutDeviceState(state, last_seen_at_ms, progress.progress(case, rollout))
        for case, (state, last_seen_at_ms) in zip(cases, found, strict=True)
    ]
    return RolloutPage(devices, found[-1][0].device if len(found) == PAGE_ITEMS_MAX else None)


def counted(devices: Iterable[RolloutDeviceState]) -> dict[ProgressState, int]:
    """Returns how many of these devices are in each state."""
    found: dict[ProgressState, int] = {}
    for each in devices:
        found[each.progress.state] = found.get(each.progress.state, 0) + 1
    return found

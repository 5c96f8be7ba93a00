"""Finds the devices that a rollout is meant for, each in exactly one state.

The state of a device follows from its decision, so it is computed for each device that is looked
at. A page therefore looks at a bounded number of devices, whatever the fleet's size.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead
from firmtrail.http.lists import PAGE_ITEMS_MAX
from firmtrail.projections import check_in, device_offers, rollout_devices
from firmtrail.projections.device_current import CurrentDevice
from firmtrail.rules import progress
from firmtrail.rules.device import DeviceState
from firmtrail.rules.progress import DeviceProgress, ProgressState
from firmtrail.rules.rollout import RolloutState

BATCHES_MAX = 3
"""Limits the batches of up to 500 devices that are read to fill one page of devices in a state. If
few are in it, a page may hold fewer than `limit`, or none, and still name a next page. A page of
devices in any state reads only as many batches as `limit` devices need."""

WITH_OFFER: dict[ProgressState | None, str | None] = {
    "installed": "installed",
    "failed": "failed",
    "offered": "",
    "exhausted": None,
}
"""The states of devices to which the rollout has made an offer, which an index finds, and the
outcome that one of these offers then has; "" for none, None for any."""


class RolloutDeviceState(NamedTuple):
    """Holds a device that a rollout is meant for, and its state in the rollout."""

    state: DeviceState
    last_seen_at_ms: int | None
    progress: DeviceProgress


class RolloutPage(NamedTuple):
    """Holds some devices of a rollout; `last` is the device after which the next page begins."""

    devices: list[RolloutDeviceState]
    last: str | None
    looked_at: int = 0
    """How many devices it looked at, at least, if it ended because these are as many as it may."""


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
    read = rollout_devices.page
    if wanted in WITH_OFFER:
        read = partial(rollout_devices.page_of_offered, outcome=WITH_OFFER[wanted])
    head, items = (call.log_id, call.project), list[RolloutDeviceState]()
    looked_at = 0
    for size in _batches(limit, wanted):
        batch = await read(now.reader, head, rollout, after=after, limit=size)
        found = await _with_states(call, now, rollout, batch.devices)
        items += [each for each in found if wanted in {None, each.progress.state}]
        if len(items) > limit:
            return RolloutPage(items[:limit], items[limit - 1].state.device)
        looked_at += batch.looked_at or len(found)
        if batch.last is None:
            return RolloutPage(items, None)
        if len(found) < size:
            return RolloutPage(items, batch.last, looked_at)
        after = batch.last
    return RolloutPage(items, after, looked_at)


def _batches(limit: int, wanted: ProgressState | None) -> Iterator[int]:
    """Yields the sizes of the batches. The first is as large as the page, which it may fill.
    Without a state to look for, further ones are as many as the page needs."""
    yield min(limit + 1, PAGE_ITEMS_MAX)
    for _ in range(limit // PAGE_ITEMS_MAX if wanted is None else BATCHES_MAX - 1):
        yield PAGE_ITEMS_MAX


async def _with_states(
    call: AnyCall, now: ConsistentRead, rollout: RolloutState, found: Sequence[CurrentDevice]
) -> list[RolloutDeviceState]:
    """Returns these devices, each with its state in the rollout."""
    reader, control, log_id = now.reader, now.control, call.log_id
    now_ms = call.services.access.now_ms()
    offers = await device_offers.live(reader, log_id, [state.device for state, _ in found])
    with_offers = [(state, list(offers.get(state.device, {}).values())) for state, _ in found]
    cases = await check_in.cases(reader, log_id, control, with_offers, now_ms=now_ms)
    return [
        RolloutDeviceState(state, last_seen_at_ms, progress.progress(case, rollout))
        for case, (state, last_seen_at_ms) in zip(cases, found, strict=True)
    ]


def counted(devices: Iterable[RolloutDeviceState]) -> dict[ProgressState, int]:
    """Returns how many of these devices are in each state."""
    found: dict[ProgressState, int] = {}
    for each in devices:
        found[each.progress.state] = found.get(each.progress.state, 0) + 1
    return found

"""Shows the devices of a project that the filters match, now and as of a moment of the past."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.moments import past_of
from firmtrail.console.rows import PROJECT, PartName, page
from firmtrail.http import device_lists
from firmtrail.http.call import Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.device_lists import DeviceFilters
from firmtrail.http.lists import Total
from firmtrail.http.scalars import AsOf, DeviceName
from firmtrail.projections import check_in, device_pages, fleet_past, fleet_versions, outdated
from firmtrail.projections.device_current import CurrentDevice
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.rules import release
from firmtrail.rules.device import FAILING
from firmtrail.rules.release import CurrentReleases

DEVICES = f"{PROJECT}/devices"

SHOWN_MAX = 50
NAMES_MAX = 200
"""Limits the models and the versions that the filters suggest."""

SPANS = {"3600": "an hour", "86400": "a day", "604800": "a week", "2592000": "30 days"}
"""The spans of silence that the filter offers; the address takes any number of seconds."""


class DevicesPageQuery(DeviceFilters, frozen=True, kw_only=True):
    """Filters the devices, and continues the list after one of them."""

    as_of: AsOf | None = None
    part: PartName | None = None
    after: DeviceName | None = None


class Listed(NamedTuple):
    """Holds the devices of one page, with the versions that they should run."""

    devices: Sequence[CurrentDevice]
    last: str | None
    """The device after which the next page begins, if there is one."""
    looked_at: int
    """How many devices were looked at, if these are as many as one page looks at."""
    current: CurrentReleases
    targets: Mapping[str, str]
    moment: Moment
    counts: Sequence[VersionCount]
    total: int | None
    """How many devices match, if a view counts them."""


def set_filters(filters: DeviceFilters) -> dict[str, Any]:
    """Returns the filters that are set, as an address has them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in device_lists.set_filters(filters).items()
    }


async def get_devices(call: Call[DevicesPageQuery, None]) -> web.Response:
    """Show the devices that the filters match, by id."""
    query = call.query
    listed = await (_now(call) if query.as_of is None else _then(call))
    return render.page(
        call,
        "devices.html",
        title="Devices",
        moment=listed.moment,
        listed=listed,
        query=query,
        filters=set_filters(query),
        spans=SPANS,
        failing=FAILING,
        total=listed.total,
        count=await _count(call) if query.part == "count" else None,
        models=sorted({each.model for each in listed.counts if each.model})[:NAMES_MAX],
        versions=sorted({each.version for each in listed.counts if each.version})[:NAMES_MAX],
        outdated_since_ms=_outdated_since(listed.current),
    )


def _outdated_since(current: CurrentReleases) -> Any:
    def since_ms(state: Any) -> int | None:
        if state.decommissioned:
            return None
        return release.outdated_since_ms(current, state.model, state.version)

    return since_ms


async def _now(call: Call[DevicesPageQuery, None]) -> Listed:
    async with consistent_read(call) as now:
        after = call.query.after or ""
        found = await device_lists.page_now(call, now, call.query, after=after, limit=SHOWN_MAX)
        states = [each.state for each in found.devices]
        now_ms = call.services.access.now_ms()
        targets = await check_in.targets(
            now.reader, call.log_id, now.control, states, now_ms=now_ms
        )
        _, counts = await fleet_versions.counts(now.reader, call.log_id)
        if device_lists.is_of_cells(call.query):
            total: int | None = device_lists.count_of_cells(counts, call.query, now.control.current)
        else:
            total = await device_lists.total_now(call, now, call.query)
    _, devices, last, looked_at = found
    if call.query.after is None and total == len(devices):
        last, looked_at = None, 0
    current, moment = now.control.current, Moment(now.size)
    return Listed(devices, last, looked_at, current, targets, moment, counts, total)


async def _then(call: Call[DevicesPageQuery, None]) -> Listed:
    query, db = call.query, call.db
    device_lists.check_past(query)
    moment = await past_of(call)
    stop = moment.stop or 0
    past = Past(call.log_id, stop)
    current = await outdated.current_then(db, past.log_id, stop)
    which = device_lists.filter_then(call, query, current)
    listed = await fleet_past.page(db, past, which, after=query.after or "", limit=SHOWN_MAX)
    _, counts = await fleet_versions.counts(db, call.log_id, stop)
    found = [CurrentDevice(state, None) for state in listed.devices]
    total = None
    if device_lists.is_of_cells(query):
        total = device_lists.count_of_cells(counts, query, current)
    _, last, looked_at = listed
    return Listed(found, last, looked_at, current, {}, Moment(stop, *moment), counts, total)


async def _count(call: Call[DevicesPageQuery, None]) -> Total | None:
    """Returns how many devices match, and whether all were looked at."""
    if call.query.as_of is not None:
        return None
    async with consistent_read(call) as now:
        return await device_lists.count_now(call, now, call.query, device_pages.LOOKED_AT_MAX)


ROUTES = (page(DEVICES, get_devices, query=DevicesPageQuery, has_past=True, is_view=True),)

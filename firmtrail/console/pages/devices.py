"""Shows the devices of a project that the filters match, now and as of a moment of the past."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.rows import PROJECT, PartName, page
from firmtrail.events.times import time_ms
from firmtrail.http import query_times
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, consistent_read
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.scalars import AsOf, DeviceName, DevicePrefix, Name, Seconds, VersionText
from firmtrail.projections import check_in, device_current, fleet_past, fleet_versions, outdated
from firmtrail.projections.device_current import CurrentDevice, Filter
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.outdated import Outdated
from firmtrail.rules import release
from firmtrail.rules.device import FAILING
from firmtrail.rules.release import CurrentReleases

DEVICES = f"{PROJECT}/devices"

SHOWN_MAX = 50
NAMES_MAX = 200
"""Limits the models and the versions that the filters suggest."""

SPANS = {"3600": "an hour", "86400": "a day", "604800": "a week", "2592000": "30 days"}
"""The spans of silence that the filter offers; the address takes any number of seconds."""


class DeviceFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the filters of the list, as the API has them."""

    version: VersionText | None = None
    model: Name | None = None
    cohort: Name | None = None
    tag: Name | None = None
    outdated: bool | None = None
    pending: bool | None = None
    failing: bool | None = None
    silent_for: Seconds | None = None
    q: DevicePrefix | None = None


class DevicesPageQuery(DeviceFilters, frozen=True, kw_only=True):
    """Filters the devices, and continues the list after one of them."""

    as_of: AsOf | None = None
    part: PartName | None = None
    after: DeviceName | None = None


class Listed(NamedTuple):
    """Holds the devices of one page, with the versions that they should run."""

    devices: Sequence[CurrentDevice]
    more: bool
    current: CurrentReleases
    targets: Mapping[str, str]
    moment: Moment
    counts: Sequence[VersionCount]


def filter_of(call: AnyCall, filters: DeviceFilters) -> Filter:
    """Returns the filter without `outdated`, which needs the releases."""
    silent_since_ms = None
    if filters.silent_for is not None:
        silent_since_ms = call.services.access.now_ms() - filters.silent_for * 1000
    return Filter(
        version=filters.version,
        model=filters.model,
        cohort=filters.cohort,
        tag=filters.tag,
        failing=filters.failing,
        silent_since_ms=silent_since_ms,
        prefix=filters.q,
        waiting=filters.pending,
    )


async def filter_now(call: AnyCall, now: ConsistentRead, filters: DeviceFilters) -> Filter:
    """Returns the filter for devices as they are now."""
    which = filter_of(call, filters)
    if filters.outdated is None:
        return which
    _, known = await outdated.now(now.reader, call.log_id, wanted=filters.outdated)
    return which._replace(outdated=known)


def set_filters(filters: DeviceFilters) -> dict[str, Any]:
    """Returns the filters that are set, as an address has them."""
    values = {name: getattr(filters, name) for name in DeviceFilters.__struct_fields__}
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in values.items()
        if value is not None
    }


async def page_now(
    call: AnyCall, now: ConsistentRead, filters: DeviceFilters, *, after: str, limit: int
) -> tuple[list[CurrentDevice], str | None]:
    """Returns the next devices that the filters match, and the last one that was looked at if more
    may follow."""
    which = await filter_now(call, now, filters)
    head = (call.log_id, call.project)
    _, found = await device_current.page(now.reader, head, which, after=after, limit=limit + 1)
    kept = [
        each for each in found[:limit] if which.outdated is None or which.outdated.finds(each.state)
    ]
    return kept, found[limit - 1].state.device if len(found) > limit else None


async def get_devices(call: Call[DevicesPageQuery, None]) -> web.Response:
    """Show the devices that the filters match, by id."""
    query = call.query
    listed, last = await (_now(call) if query.as_of is None else _then(call))
    given = set_filters(query)
    return render.page(
        call,
        "devices.html",
        title="Devices",
        moment=listed.moment,
        listed=listed,
        last=last,
        query=query,
        filters=given,
        spans=SPANS,
        failing=FAILING,
        total=_cheap_total(listed.counts, given),
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


async def _now(call: Call[DevicesPageQuery, None]) -> tuple[Listed, str | None]:
    async with consistent_read(call) as now:
        after = call.query.after or ""
        found, last = await page_now(call, now, call.query, after=after, limit=SHOWN_MAX)
        states = [each.state for each in found]
        now_ms = call.services.access.now_ms()
        targets = await check_in.targets(
            now.reader, call.log_id, now.control, states, now_ms=now_ms
        )
        _, counts = await fleet_versions.counts(now.reader, call.log_id)
    listed = Listed(found, last is not None, now.control.current, targets, Moment(now.size), counts)
    return listed, last


async def _then(call: Call[DevicesPageQuery, None]) -> tuple[Listed, str | None]:
    query, db = call.query, call.services.db
    if query.silent_for is not None:
        raise invalid_parameter("silent_for", "is known only for the present")
    if query.pending is not None:
        raise invalid_parameter("pending", "is known only for the present")
    stop = await query_times.size_as_of(call, query.as_of or "")
    past, which = Past(call.log_id, stop), filter_of(call, query)
    current = await outdated.current_then(db, past.log_id, stop)
    if query.outdated is not None:
        which = which._replace(outdated=Outdated(query.outdated, current))
    states = await fleet_past.page(db, past, which, after=query.after or "", limit=SHOWN_MAX + 1)
    _, counts = await fleet_versions.counts(db, call.log_id, stop)
    at_ms = None if str(query.as_of).startswith("@") else time_ms(query.as_of or "")
    found = [CurrentDevice(state, None) for state in states[:SHOWN_MAX]]
    more = len(states) > SHOWN_MAX
    listed = Listed(found, more, current, {}, Moment(stop, stop, at_ms), counts)
    return listed, found[-1].state.device if more else None


def _cheap_total(counts: Sequence[VersionCount], given: Mapping[str, Any]) -> int | None:
    """Returns how many devices match, if the counts of versions say it; None if only the devices
    do."""
    if given.keys() - {"model", "version"}:
        return None
    return sum(
        each.devices
        for each in counts
        if given.get("model", each.model) == each.model
        and given.get("version", each.version) == each.version
    )


async def _count(call: Call[DevicesPageQuery, None]) -> int | None:
    if call.query.as_of is not None:
        return None
    async with consistent_read(call) as now:
        which = await filter_now(call, now, call.query)
        return await device_current.count(now.reader, (call.log_id, call.project), which)


ROUTES = (page(DEVICES, get_devices, query=DevicesPageQuery, has_past=True, is_view=True),)

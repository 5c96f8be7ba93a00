"""Serves a project's devices, as a list and one by one, as they are now or were in the past."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType

from firmtrail.access import attributes as said_of_itself
from firmtrail.events.fleet import DeviceChanged, DeviceRegistered, Status
from firmtrail.eventstore import log
from firmtrail.http import device_lists, lists, query_times, respond
from firmtrail.http.api.rows import READ, D, P, listing, resource
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import ConsistentRead, case_of, device_saying_and_control
from firmtrail.http.device_lists import DeviceFilters
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import ListPage, SortKey, Total
from firmtrail.http.scalars import (
    AsOf,
    Cursor,
    DeviceName,
    Limit,
    Name,
    Secret,
    Sha256,
    Time,
    VersionText,
)
from firmtrail.projections import check_in, device_current, fleet_past, fleet_versions, outdated
from firmtrail.projections.device_current import CurrentDevice
from firmtrail.projections.fleet_past import Past
from firmtrail.rules import release, target
from firmtrail.rules.device import FAILING, ClockFault, DeviceState
from firmtrail.rules.release import CurrentReleases


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a device: its labels, what it runs and since when."""

    device: str
    version: str | None
    since: TimeText | None
    previous_version: str | None
    status: Status | None
    failing: bool
    target: str | None
    last_seen_at: TimeText | None
    model: str | None
    cohort: str | None
    tags: tuple[str, ...]
    pinned: str | None
    clock: ClockFault | None
    decommissioned: bool
    outdated_since: TimeText | None
    """Since when its model has had a higher release, neither withdrawn nor a pre-release; None: the
    device is not outdated."""
    pending: bool
    """Whether it waits to be accepted, and is offered nothing."""
    offered_key: Sha256 | None
    """The SHA-256 of a public key that waits to be accepted as its own."""
    attributes: dict[str, str] | UnsetType = UNSET
    """The pairs that the device says of itself; not in lists, nor for the past."""
    secret: str | UnsetType = UNSET
    """Set only in the answer to the request that made it."""


class Registration(StrictBody, frozen=True, kw_only=True):
    """Names a device to register. Without `secret` the server makes one."""

    device: DeviceName
    model: Name | None = None
    cohort: Name | None = None
    tags: Annotated[list[Name], Meta(max_length=32)] = msgspec.field(default_factory=list)
    secret: Secret | None = None


class Registered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describes a device that was registered, with `secret`, shown this once, if the server made
    one."""

    device: str
    model: str | None
    cohort: str | None
    tags: tuple[str, ...]
    secret: str | UnsetType | None = UNSET


class DeviceChange(StrictBody, frozen=True, kw_only=True):
    """Names what changes in a device; null clears a value."""

    model: Name | UnsetType | None = UNSET
    cohort: Name | UnsetType | None = UNSET
    tags: Annotated[list[Name], Meta(max_length=32)] | UnsetType = UNSET
    pinned: VersionText | UnsetType | None = UNSET
    decommissioned: bool | UnsetType = UNSET


class DeviceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses a moment: after N events or a time of the log, or after the last report up to
    `at`."""

    as_of: AsOf | None = None
    at: Time | None = None


class DevicesQuery(DeviceFilters, frozen=True, kw_only=True):
    """Filters the devices. Its parameters are also those of every list: a Struct has one base."""

    limit: Limit = 50
    cursor: Cursor | None = None
    count: bool = False
    as_of: AsOf | None = None
    at: Time | None = None


async def get_devices(call: Call[DevicesQuery, None]) -> web.StreamResponse:
    """List the devices that the filters match, by id.

    A page looks at a limited number of devices. If few of them match, it may have fewer than
    `limit`, or none, and still name a next page.
    """
    query = call.query
    if query.as_of is None and query.at is None:
        return await _devices_now(call)
    device_lists.check_past(query)
    return await _devices_then(call, await _past(call))


async def _devices_now(call: Call[DevicesQuery, None]) -> web.StreamResponse:
    def fetching(now: ConsistentRead) -> lists.FetchPage:
        async def fetch(place: SortKey | None, limit: int) -> ListPage:
            after = lists.text_before(place)
            page = await device_lists.page_now(call, now, call.query, after=after, limit=limit)
            items = await _shown_with_targets(call, now, page.devices)
            return ListPage(items, None if page.last is None else (page.last,), now.size)

        return fetch

    def counting(now: ConsistentRead) -> lists.CountItems:
        most = device_lists.TOTAL_MAX
        return partial(device_lists.count_now, call, now, call.query, most)

    return await lists.answer_consistently(call, Device, fetching, counting)


async def _shown_with_targets(
    call: AnyCall, now: ConsistentRead, found: Sequence[CurrentDevice]
) -> list[Device]:
    states = [each.state for each in found]
    targets = await check_in.targets(
        now.reader, call.log_id, now.control, states, now_ms=call.services.access.now_ms()
    )
    return [
        shown(each.state, now.control.current, each.last_seen_at_ms, targets.get(each.state.device))
        for each in found
    ]


async def _devices_then(call: Call[DevicesQuery, None], past: Past) -> web.StreamResponse:
    db = call.db
    current = await outdated.current_then(db, past.log_id, past.stop)
    which = device_lists.filter_then(call, call.query, current)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        found = await fleet_past.page(db, past, which, after=lists.text_before(place), limit=limit)
        items = [shown(each, current) for each in found.devices]
        return ListPage(items, None if found.last is None else (found.last,), past.stop)

    return await lists.answer(call, Device, fetch, partial(_count_then, call, past, current, fetch))


async def _count_then(
    call: Call[DevicesQuery, None], past: Past, current: CurrentReleases, fetch: lists.FetchPage
) -> int | Total:
    """Returns how many devices matched, by the counts of that moment if they say it."""
    if past.at_ms is not None or not device_lists.is_of_cells(call.query):
        return await lists.count_some(fetch)
    _, counts = await fleet_versions.counts(call.db, past.log_id, past.stop)
    return device_lists.count_of_cells(counts, call.query, current)


async def _past(call: Call[DevicesQuery, None] | Call[DeviceQuery, None]) -> Past:
    query = call.query
    at_ms = None if query.at is None else query_times.parameter_ms("at", query.at)
    if query.as_of is not None:
        return Past(call.log_id, await query_times.size_as_of(call, query.as_of), at_ms)
    return Past(call.log_id, (await log.head(call.db, call.log_id)).size, at_ms)


async def get_device(call: Call[DeviceQuery, None]) -> web.Response:
    """Return a device: its labels, what it runs and since when."""
    name = call.path("device")
    if call.query.as_of is None and call.query.at is None:
        size, body = await shown_now(call, name)
        return respond.resource(call, body, size)
    past = await _past(call)
    states = await fleet_past.states(call.db, past, [name])
    if name not in states:
        raise NotFound(f"There was no device {name}.")
    current = await outdated.current_then(call.db, past.log_id, past.stop)
    return respond.resource(call, shown(states[name], current), past.stop)


async def existing(call: AnyCall, name: str) -> tuple[int, CurrentDevice]:
    """Returns the log's size and the device; concurrent requests share a query. Raises
    `NotFound`."""
    size, found = device_current.size_and_device(
        await call.services.queries.devices.get((call.log_id, name))
    )
    if found is None:
        raise NotFound(f"There is no device {name}.")
    return size, found


async def shown_now(call: AnyCall, name: str) -> tuple[int, Device]:
    """Returns the log's size, and a device with its target; concurrent requests share a query.
    Raises `NotFound`."""
    seen, control = await device_saying_and_control(call, name)
    state = seen.state
    if state is None:
        raise NotFound(f"There is no device {name}.")
    target_version = None
    if control.releases and not state.decommissioned:
        target_version = target.decide(await case_of(call, control, state, seen)).version
    body = shown(state, control.current, seen.last_seen_at_ms, target_version)
    said = said_of_itself.decoded(seen.attributes)
    return seen.counts.size, msgspec.structs.replace(body, attributes=said)


def shown(
    state: DeviceState,
    current: CurrentReleases,
    last_seen_at_ms: int | None = None,
    target_version: str | None = None,
) -> Device:
    """Returns the device as answers show it."""
    outdated_since_ms = None
    if not state.decommissioned:
        outdated_since_ms = release.outdated_since_ms(current, state.model, state.version)
    return Device(
        device=state.device,
        version=state.version,
        since=time_or_none(state.since_ms),
        previous_version=state.previous_version,
        status=state.status,
        failing=state.status in FAILING,
        target=target_version,
        outdated_since=time_or_none(outdated_since_ms),
        last_seen_at=time_or_none(last_seen_at_ms),
        model=state.model,
        cohort=state.cohort,
        tags=state.tags,
        pinned=state.pinned,
        clock=state.clock,
        decommissioned=state.decommissioned,
        pending=state.pending,
        offered_key=state.offered_key,
    )


def registered(state: DeviceState, secret: str | None) -> Registered:
    """Returns the answer for a device that was registered, with the secret that the server made."""
    return Registered(
        device=state.device,
        model=state.model,
        cohort=state.cohort,
        tags=state.tags,
        secret=secret or UNSET,
    )


def registration(wanted: Registration) -> DeviceRegistered:
    tags = tuple(dict.fromkeys(wanted.tags))
    return DeviceRegistered(wanted.model, wanted.cohort, tags)


def change(wanted: DeviceChange) -> DeviceChanged:
    tags = wanted.tags if wanted.tags is UNSET else tuple(dict.fromkeys(wanted.tags))
    return DeviceChanged(wanted.model, wanted.cohort, tags, wanted.pinned)


ROUTES = (
    listing(f"{P}/devices", get_devices, READ, Device, query=DevicesQuery, is_view=True),
    resource(D, get_device, READ, Device, query=DeviceQuery, is_view=True),
)

"""Selects the devices of a list of the API or the console, now and as of a moment of the past."""

from collections.abc import Iterable
from typing import Any

import msgspec

from firmtrail.http.call import AnyCall
from firmtrail.http.decisions import ConsistentRead
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.lists import Total
from firmtrail.http.scalars import AttributePair, DevicePrefix, Name, Seconds, VersionText
from firmtrail.projections import device_pages, fleet_labels, fleet_versions, outdated
from firmtrail.projections.device_current import Filter
from firmtrail.projections.device_pages import DevicePage
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.projections.outdated import Outdated
from firmtrail.rules import attributes
from firmtrail.rules.release import CurrentReleases


class DeviceFilters(msgspec.Struct, frozen=True, kw_only=True):
    """Holds the filters of a list of devices."""

    version: VersionText | None = None
    model: Name | None = None
    cohort: Name | None = None
    tag: Name | None = None
    outdated: bool | None = None
    failing: bool | None = None
    silent_for: Seconds | None = None
    q: DevicePrefix | None = None
    pending: bool | None = None
    attribute: tuple[AttributePair, ...] = ()


_OF_THE_PRESENT = ("silent_for", "pending", "attribute")
"""The filters by facts that have no past."""


_OF_CELLS = {"model", "version", "outdated"}
"""The filters by facts that devices of one model and version share."""

TOTAL_MAX = 100_000
"""Limits the devices that a total looks at, if no view counts those that match."""


async def filter_now(call: AnyCall, now: ConsistentRead, filters: DeviceFilters) -> Filter:
    """Returns the filter for devices as they are now."""
    which = _filter(call, filters)
    if filters.outdated is None:
        return which
    _, known = await outdated.now(now.reader, call.log_id, wanted=filters.outdated)
    return which._replace(outdated=known)


def filter_then(call: AnyCall, filters: DeviceFilters, current: CurrentReleases) -> Filter:
    """Returns the filter for devices as they were when `current` could outdate them. Raises
    `Invalid` for a filter by a fact that has no past."""
    check_past(filters)
    which = _filter(call, filters)
    if filters.outdated is None:
        return which
    return which._replace(outdated=Outdated(filters.outdated, current))


def check_past(filters: DeviceFilters) -> None:
    """Raises `Invalid` if a filter is by a fact that has no past."""
    for name in _OF_THE_PRESENT:
        if getattr(filters, name) not in {None, ()}:
            raise invalid_parameter(name, "is known only for the present")


async def page_now(
    call: AnyCall, now: ConsistentRead, filters: DeviceFilters, *, after: str, limit: int
) -> DevicePage:
    """Returns the next devices that the filters match."""
    which = await filter_now(call, now, filters)
    head = (call.log_id, call.project)
    found = await device_pages.page(now.reader, head, which, after=after, limit=limit)
    kept = [
        each for each in found.devices if which.outdated is None or which.outdated.finds(each.state)
    ]
    if len(kept) < len(found.devices) and not found.looked_at:
        found = found._replace(looked_at=len(found.devices))
    return found._replace(devices=kept)


async def total_now(call: AnyCall, now: ConsistentRead, filters: DeviceFilters) -> int | None:
    """Returns how many devices the filters match, if a view counts them: those of a model and a
    version, outdated or not, of a cohort or with a tag. None: only looking at devices counts
    them."""
    if not is_of_cells(msgspec.structs.replace(filters, cohort=None, tag=None)):
        return None
    if filters.cohort is not None and filters.tag is not None:
        return None
    if filters.cohort is not None:
        label = fleet_labels.of_cohort(filters.cohort)
        counts = await fleet_labels.counts(now.reader, call.log_id, label)
    elif filters.tag is not None:
        label = fleet_labels.of_tag(filters.tag)
        counts = await fleet_labels.counts(now.reader, call.log_id, label)
    else:
        _, counts = await fleet_versions.counts(now.reader, call.log_id)
    return count_of_cells(counts, filters, now.control.current)


async def count_now(
    call: AnyCall,
    now: ConsistentRead,
    filters: DeviceFilters,
    looked_at_max: int,
) -> Total:
    """Returns how many devices the filters match: all, if a view counts them; else those among the
    first `looked_at_max` devices that are looked at."""
    total = await total_now(call, now, filters)
    if total is not None:
        return Total(total)
    which, head = await filter_now(call, now, filters), (call.log_id, call.project)
    found = await device_pages.count(now.reader, head, which, looked_at_max)
    return Total(*found)


def set_filters(filters: DeviceFilters) -> dict[str, Any]:
    """Returns the values of the filters that are set, by name."""
    values = {name: getattr(filters, name) for name in DeviceFilters.__struct_fields__}
    return {name: value for name, value in values.items() if value not in {None, ()}}


def is_of_cells(filters: DeviceFilters) -> bool:
    """Returns whether the counts of each model and version say how many devices match."""
    return set_filters(filters).keys() <= _OF_CELLS


def count_of_cells(
    counts: Iterable[VersionCount], filters: DeviceFilters, current: CurrentReleases
) -> int:
    """Returns how many devices match, for filters that `is_of_cells` returns True for."""
    if filters.outdated is not None:
        counts = filter(Outdated(filters.outdated, current).finds, counts)
    return fleet_versions.total(counts, filters.model, filters.version)


def _filter(call: AnyCall, filters: DeviceFilters) -> Filter:
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
        pairs=tuple(attributes.pair(each) for each in filters.attribute),
    )

"""Serves how many devices run each version, now and over time."""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.events.times import time_text
from firmtrail.eventstore import log, sizes
from firmtrail.http import fleet_metrics, lists, metrics, query_times, respond
from firmtrail.http.api.rows import READ, TEXT, P, listing, read
from firmtrail.http.api.wire import TimeText
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.errors import invalid_parameter
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.scalars import AsOf, Time
from firmtrail.projections import fleet_versions
from firmtrail.projections.fleet_versions import VersionCount

STEPS_MAX = 1_000


class VersionShare(msgspec.Struct, frozen=True):
    """Counts the registered devices of a model that run a version, with their share of all
    devices."""

    version: str | None
    model: str | None
    devices: int
    share: float


class TimelineStep(msgspec.Struct, frozen=True):
    """Holds the shares as they were known at a time."""

    at: TimeText
    log_size: int
    items: list[VersionShare]


class VersionsQuery(ListQuery, frozen=True, kw_only=True):
    """Chooses a moment."""

    as_of: AsOf | None = None


class TimelineQuery(ListQuery, frozen=True, kw_only=True, rename={"start": "from", "stop": "to"}):
    """Chooses the first and the last time and the distance of the steps, of which there are at most
    1 000."""

    start: Time
    stop: Time | None = None
    step: Annotated[int, Meta(ge=1, le=366 * 86_400)] = 86_400


async def get_versions(call: Call[VersionsQuery, None]) -> web.StreamResponse:
    """List how many devices run each version, by model and version."""
    as_of = call.query.as_of
    stop = None if as_of is None else await query_times.size_as_of(call, as_of)
    size, counts = await fleet_versions.counts(call.db, call.log_id, stop)
    items = sorted(_shares(counts), key=_place_of)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        remaining = [item for item in items if place is None or _place_of(item) > place]
        end = lists.next_key(remaining, limit, _place_of)
        return ListPage(remaining[:limit], end, size if stop is None else stop)

    async def count() -> int:
        return len(items)

    return await lists.answer(call, VersionShare, fetch, count, key_type=tuple[str, str])


def _place_of(item: VersionShare) -> SortKey:
    return item.model or "", item.version or ""


def _shares(counts: Sequence[VersionCount]) -> list[VersionShare]:
    """Returns each count with its share of all registered devices."""
    registered = sum(count.devices for count in counts)
    return [
        VersionShare(
            count.version, count.model, count.devices, round(count.devices / registered, 6)
        )
        for count in counts
    ]


async def get_project_metrics(call: AnyCall) -> web.Response:
    """Return how many devices of each model are outdated, in Prometheus's text format."""
    async with consistent_read(call) as (reader, size, control):
        _, counts = await fleet_versions.counts(reader, call.log_id)
    text = fleet_metrics.model_metrics(call.project, counts, control.current)
    headers = {"Content-Type": metrics.CONTENT_TYPE, **respond.NO_STORE}
    return web.Response(body=text, headers={**headers, respond.LOG_SIZE: str(size)})


async def get_timeline(call: Call[TimelineQuery, None]) -> web.StreamResponse:
    """List how many devices ran each version, as known at each step, the earliest first."""
    times = _times(call)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        remaining = [at_ms for at_ms in times if place is None or at_ms > int(place[0])]
        size, items = await _steps_at(call, remaining[:limit])
        return ListPage(items, lists.next_key(remaining, limit, lambda at_ms: (at_ms,)), size)

    async def count() -> int:
        return len(times)

    return await lists.answer(call, TimelineStep, fetch, count, key_type=tuple[int])


async def _steps_at(call: AnyCall, times: Sequence[int]) -> tuple[int, list[TimelineStep]]:
    """Returns the log's size, and the shares known at each of these times from the events before
    that size. The counts are read again only if the log had grown between two times."""
    db, log_id = call.db, call.log_id
    items: list[TimelineStep] = []
    size, known = (await log.head(db, log_id)).size, -1
    for at_ms in times:
        stop = min(size, await sizes.at(db, log_id, at_ms))
        if not items or stop != known:
            known, (_, counts) = stop, await fleet_versions.counts(db, log_id, stop)
            shown_shares = _shares(counts)
        items.append(TimelineStep(time_text(at_ms), stop, shown_shares))
    return size, items


def _times(call: Call[TimelineQuery, None]) -> Sequence[int]:
    query = call.query
    now_ms = call.services.access.now_ms()
    start_ms = query_times.past_ms(call, "from", query.start)
    stop_ms = (
        now_ms if query.stop is None else min(query_times.parameter_ms("to", query.stop), now_ms)
    )
    if stop_ms < start_ms:
        raise invalid_parameter("to", "is before from")
    steps = range(start_ms, stop_ms + 1, query.step * 1000)
    if len(steps) > STEPS_MAX:
        raise invalid_parameter("step", f"makes more than {STEPS_MAX} steps")
    return steps


ROUTES = (
    read(f"{P}/metrics", get_project_metrics, READ, {200: TEXT}, is_view=True),
    listing(f"{P}/versions", get_versions, READ, VersionShare, query=VersionsQuery, is_view=True),
    listing(
        f"{P}/versions/timeline",
        get_timeline,
        READ,
        TimelineStep,
        query=TimelineQuery,
        is_view=True,
    ),
)

"""Serves the history of a device: the versions that it ran."""

from collections.abc import Sequence

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from firmtrail.events.fleet import Status
from firmtrail.events.times import time_text
from firmtrail.eventstore.lineage import Segment
from firmtrail.http import lists, query_times
from firmtrail.http.api.devices import existing
from firmtrail.http.api.rows import READ, D, listing
from firmtrail.http.api.wire import TimeText, time_or_none
from firmtrail.http.call import Call
from firmtrail.http.errors import NotFound
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.logs import log_and_position, older_logs
from firmtrail.http.scalars import AsOf, Time
from firmtrail.projections import fleet_past
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.history_lines import END, HistoryEntry
from firmtrail.projections.history_pages import HistoryRequest
from firmtrail.rules.device import ClockFault
from firmtrail.rules.history import ChangeKind


class HistoryLine(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a version that a device came to run; with `progress`, also a report on the way
    there."""

    version: str
    previous_version: str | None
    change: ChangeKind | None
    status: Status
    since: TimeText
    occurred_at: TimeText | None
    recorded_at: TimeText
    position: int
    log: int | UnsetType = UNSET
    """The log of `position`, if it is not the project's newest."""
    late: bool
    clock: ClockFault | None
    detail: str | None


class HistoryQuery(ListQuery, frozen=True, kw_only=True):
    """Chooses the lines; `progress` adds the reports that changed no version."""

    progress: bool = False
    as_of: AsOf | None = None
    at: Time | None = None


async def get_history(call: Call[HistoryQuery, None]) -> web.StreamResponse:
    """List what a device ran, newest first by its own order."""
    query, name = call.query, call.path("device")
    at_ms = None if query.at is None else query_times.parameter_ms("at", query.at)
    stop = END if query.as_of is None else await query_times.size_as_of(call, query.as_of)
    moves = 0 if query.progress else 1

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        nonlocal stop  # later pages and a total are read at the same size as the first
        before = (END, END) if place is None else (int(place[0]), int(place[1]))
        until_ms = at_ms if place is None else None
        page = await call.services.queries.histories.page(
            HistoryRequest(call.log_id, name, stop, until_ms, moves, *before, limit + 1)
        )
        stop = min(stop, page.size)
        if not page.entries:  # a device that reported exists
            await _check_existed(call, name, stop)
        old = await older_logs(call, [entry.position for entry in page.entries])
        items = [_line(entry, old) for entry in page.entries[:limit]]
        end = lists.next_key(page.entries, limit, lambda entry: (entry.place, entry.position))
        return ListPage(items, end, page.size if query.as_of is None else stop)

    return await lists.answer(call, HistoryLine, fetch, key_type=tuple[int, int])


async def _check_existed(call: Call[HistoryQuery, None], name: str, stop: int) -> None:
    """Raises `NotFound` if the device was not registered at this size of the log. No device is ever
    removed, so if the present is asked for, the log is read only where it has grown since."""
    if call.query.as_of is None and (await existing(call, name))[0] <= stop:
        return
    if name not in await fleet_past.states(call.db, Past(call.log_id, stop), [name]):
        raise NotFound(f"There was no device {name}.")


def _line(entry: HistoryEntry, old: Sequence[Segment]) -> HistoryLine:
    number, position = log_and_position(old, entry.position) if old else (UNSET, entry.position)
    return HistoryLine(
        version=entry.version,
        previous_version=entry.previous_version,
        change=entry.change,
        status=entry.status,
        since=time_text(entry.time_ms),
        occurred_at=time_or_none(entry.occurred_at_ms),
        recorded_at=time_text(entry.recorded_at_ms),
        position=position,
        log=number,
        late=entry.late,
        clock=entry.clock,
        detail=entry.detail,
    )


ROUTES = (
    listing(f"{D}/history", get_history, READ, HistoryLine, query=HistoryQuery, is_view=True),
)

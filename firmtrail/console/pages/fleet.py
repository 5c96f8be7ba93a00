"""Shows a project's fleet: notes on what needs attention, the versions that run, now and over time,
and the newest events."""

from typing import Any, Literal

from aiohttp import web

from firmtrail.console import fleet_reads, render
from firmtrail.console.fleet_reads import FleetView
from firmtrail.console.here import Moment
from firmtrail.console.meaning import wording_of
from firmtrail.console.moments import PastMoment, past_of
from firmtrail.console.rows import PROJECT, PageQuery, page
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import log
from firmtrail.http import attention
from firmtrail.http.call import Call
from firmtrail.http.scalars import Name
from firmtrail.projections import log_entries
from firmtrail.projections.log_entries import Wanted

FEED_MAX = 8
FEED_LOOKED_AT_MAX = 200
"""Limits the newest entries that are searched for those of the feed."""

FEED_TYPES = log_entries.types_of(
    (
        "FirmwareInstalled",
        "UpdateFailed",
        "UpdateProgressed",
        "UpdateOffered",
        "DeviceRegistered",
        "RolloutStarted",
        "RollbackStarted",
        "RolloutAdvanced",
        "RolloutPaused",
        "RolloutResumed",
        "RolloutAborted",
        "ReleaseAdded",
        "ReleaseWithdrawn",
    )
)
"""The events of the feed: those of devices, releases and rollouts that every member may read."""


class FleetQuery(PageQuery, frozen=True, kw_only=True):
    """Chooses what the chart shows."""

    model: Name | None = None
    days: Literal[7, 28, 90, 365] = 28


type FleetCall = Call[FleetQuery, None]


async def get_fleet(call: FleetCall) -> web.Response:
    """Show the fleet: notes that need attention, the versions that run, and the newest events."""
    if call.log_id in call.services.builder.unfit:
        return await _rebuilding(call)
    past = await past_of(call)
    view, values = await (_read(call, past) if call.query.part is None else _shared(call, past))
    names = [name for each in values["feed"] for name in (each.actor, each.stream)]
    return render.page(
        call,
        "fleet.html",
        title="Fleet",
        moment=Moment(view.size, *past),
        view=view,
        wording=await wording_of(call, names),
        days=call.query.days,
        **values,
    )


async def _rebuilding(call: FleetCall) -> web.Response:
    """Says that views are being rebuilt, because no other number can be read meanwhile."""
    size, notes = await attention.notes(call)
    return render.page(call, "rebuilding.html", title="Fleet", moment=Moment(size), notes=notes)


type FleetRead = tuple[FleetView, dict[str, Any]]
"""The view, and the other values of the template."""


async def _shared(call: FleetCall, past: PastMoment) -> FleetRead:
    """Returns what one of the open pages that read themselves again has read a moment ago. Someone
    who comes to the page sees what they have just done."""
    key = (call.log_id, past.stop, call.query.model, call.query.days)
    return await call.services.shared.get(key, lambda: _read(call, past))


async def _read(call: FleetCall, past: PastMoment) -> FleetRead:
    view = await fleet_reads.fleet_view(call, past.stop)
    models, wanted = view.models, call.query.model
    model = wanted if wanted in models else next(iter(models), None)
    chart, stop_ms = None, past.at_ms or call.services.access.now_ms()
    if model is not None:
        days = call.query.days
        chart = await fleet_reads.adoption_of(call, view, model, days=days, stop_ms=stop_ms)
    head = await log.head(call.db, call.log_id)
    feed = await _feed(call, view.size if past.stop is None else past.stop)
    return view, {"chart": chart, "model": model, "feed": feed, "number": head.number}


async def _feed(call: FleetCall, stop: int) -> list[Recorded]:
    """Returns the newest events that the feed shows, of the last few before `stop`."""
    start = max(0, stop - FEED_LOOKED_AT_MAX)
    wanted = Wanted(call.log_id, start, max(0, stop), types=FEED_TYPES)
    found = await log_entries.newest_page(call.db, wanted, limit=FEED_MAX)
    return [decode(position, text) for position, _, text in found.entries]


ROUTES = (page(PROJECT, get_fleet, query=FleetQuery, has_past=True),)

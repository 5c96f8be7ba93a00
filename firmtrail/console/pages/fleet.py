"""Shows a project's fleet: which versions it runs, now and as of a moment of the past."""

from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.rows import PROJECT, PageQuery, page
from firmtrail.http import query_times
from firmtrail.http.call import Call
from firmtrail.projections import fleet_versions


async def get_fleet(call: Call[PageQuery, None]) -> web.Response:
    """Show which versions the fleet runs."""
    as_of = call.query.as_of
    stop = None if as_of is None else await query_times.size_as_of(call, as_of)
    size, counts = await fleet_versions.counts(call.services.db, call.log_id, stop)
    return render.page(
        call,
        "fleet.html",
        title="Fleet",
        moment=Moment(size, stop),
        devices=sum(count.devices for count in counts),
        counts=counts,
    )


ROUTES = (page(PROJECT, get_fleet, has_past=True, is_view=True),)

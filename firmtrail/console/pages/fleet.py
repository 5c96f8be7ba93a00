"""Shows a project's fleet: which versions it runs, now and as of a moment of the past."""

from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.moments import past_of
from firmtrail.console.rows import PROJECT, PageQuery, page
from firmtrail.http.call import Call
from firmtrail.projections import fleet_versions


async def get_fleet(call: Call[PageQuery, None]) -> web.Response:
    """Show which versions the fleet runs."""
    past = await past_of(call)
    size, counts = await fleet_versions.counts(call.services.db, call.log_id, past.stop)
    return render.page(
        call,
        "fleet.html",
        title="Fleet",
        moment=Moment(size, *past),
        devices=sum(count.devices for count in counts),
        counts=counts,
    )


ROUTES = (page(PROJECT, get_fleet, has_past=True, is_view=True),)

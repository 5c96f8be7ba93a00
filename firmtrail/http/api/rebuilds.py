"""Serves the command `rebuild`: it starts a rebuild of a project's views and watches it.

A request starts the rebuild and is answered immediately. The rebuild continues in the server,
whether the client stays or not.
"""

from typing import Annotated

import msgspec
from aiohttp import web

from firmtrail.http import respond
from firmtrail.http.api.rows import LOCAL_PROJECT, POST, command, read
from firmtrail.http.api.wire import StrictBody
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import LOCAL
from firmtrail.http.errors import Fault, Invalid
from firmtrail.projections import fold
from firmtrail.rebuilding.builder import RebuildState
from firmtrail.rebuilding.generations import Busy
from firmtrail.rules.device import Refused


class WantedRebuild(StrictBody, frozen=True):
    """Names the view to rebuild; without it all views are rebuilt."""

    view: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    ahead: bool = False
    """Only prepares the views that are live in another form than this version's."""


class Rebuild(msgspec.Struct, frozen=True):
    """Describes the progress of the rebuild of a log's views."""

    views: list[str]
    """The views that are being built; empty if none is."""
    generation: int | None
    position: int | None
    """The views being built contain the events before this position."""
    size: int
    """The number of events in the log."""
    is_running: bool
    """Whether this server is building, or deleting the rows that were live before."""
    is_prepared: bool
    """Whether the views of this version are prepared, next to those of another version."""
    failure: str | None
    """Why the last rebuild of this server failed, if it did."""


async def post_rebuild(call: Call[None, WantedRebuild]) -> web.Response:
    """Rebuild views from the log; the present ones serve meanwhile.

    A rebuild that was left unfinished continues, and one that runs is joined.
    """
    builder, build = call.services.builder, None
    try:
        if call.body.ahead:
            build = await builder.request_ahead(call.log_id)
        else:
            build = await builder.request(call.log_id, _wanted(call.body.view))
    except Busy as busy:
        raise Refused("rebuild_running", str(busy)) from busy
    state = await builder.state(call.log_id)
    return respond.json(202, _shown(state._replace(build=build)))


def _wanted(view: str | None) -> frozenset[str]:
    """Returns the views to rebuild. Raises `Invalid`."""
    if view is not None and view not in fold.REVISIONS:
        known = ", ".join(sorted(fold.REVISIONS))
        raise Invalid(
            "There is no such view.", faults=[Fault(f"has to be one of {known}", "/view")]
        )
    return frozenset({view} if view else fold.REVISIONS)


async def get_rebuild(call: AnyCall) -> web.Response:
    """Return the progress of the rebuild."""
    return respond.json(200, _shown(await call.services.builder.state(call.log_id)))


def _shown(state: RebuildState) -> Rebuild:
    build = state.build
    return Rebuild(
        views=sorted(build.wanted) if build else [],
        generation=build.generation if build else None,
        position=build.position if build else None,
        size=state.size,
        is_running=state.is_running,
        is_prepared=state.is_prepared,
        failure=state.failure,
    )


REBUILD = f"{LOCAL_PROJECT}/rebuild"

ROUTES = (
    command(POST, REBUILD, post_rebuild, LOCAL, body=WantedRebuild, answers={202: Rebuild}),
    read(REBUILD, get_rebuild, LOCAL, {200: Rebuild}),
)

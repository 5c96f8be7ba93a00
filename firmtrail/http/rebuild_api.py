"""How does the command `rebuild` have the views of a project built anew, and watch it?

Asking begins it and answers at once. It goes on in the server, whether the asker stays or not.
"""

from typing import Annotated

import msgspec
from aiohttp import web

from firmtrail.http import respond
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import Fault, Invalid
from firmtrail.projections import fold
from firmtrail.rebuilding.builder import RebuildState
from firmtrail.rebuilding.generations import Busy
from firmtrail.rules.device import Refused


class WantedRebuild(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which view; without, all."""

    view: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class Rebuild(msgspec.Struct, frozen=True):
    """How far the rebuild of a log is."""

    views: list[str]
    """What is being built; empty where nothing is."""
    generation: int | None
    position: int | None
    """The views being built hold the events before it."""
    size: int
    """The log's."""
    is_running: bool
    """Whether this server is at it; also while it deletes what was live before."""
    failure: str | None
    """What ended the last one here, if it was not its end."""


async def post_rebuild(call: Call[None, WantedRebuild]) -> web.Response:
    """Begin, go on with one that was left, or join one that runs."""
    view = call.body.view
    if view is not None and view not in fold.REVISIONS:
        known = ", ".join(sorted(fold.REVISIONS))
        raise Invalid("There is no such view.", faults=[Fault(f"is one of {known}", "/view")])
    wanted = frozenset({view} if view else fold.REVISIONS)
    try:
        await call.services.builder.request(call.log_id, wanted)
    except Busy as busy:
        raise Refused("rebuild_running", str(busy)) from busy
    return respond.json(202, _told(await call.services.builder.state(call.log_id)))


async def get_rebuild(call: AnyCall) -> web.Response:
    """Tell how far it is."""
    return respond.json(200, _told(await call.services.builder.state(call.log_id)))


def _told(state: RebuildState) -> Rebuild:
    build = state.build
    return Rebuild(
        views=sorted(build.wanted) if build else [],
        generation=build.generation if build else None,
        position=build.position if build else None,
        size=state.size,
        is_running=state.is_running,
        failure=state.failure,
    )

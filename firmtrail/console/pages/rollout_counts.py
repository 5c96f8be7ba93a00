"""Counts the devices of a large rollout in each state, a bounded number of them in each request.

The state of a device without an outcome follows from its decision, so each device has to be looked
at. The address of each part holds how far the count is and what it found, so a server keeps nothing
between two requests, and a count that was interrupted continues where it was.
"""

from typing import Any, NamedTuple

from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.pages.rollouts import KINDS, ROLLOUT
from firmtrail.console.rows import PageQuery, page
from firmtrail.http import rollout_states
from firmtrail.http.call import Call
from firmtrail.http.decisions import consistent_read
from firmtrail.http.rollouts import name_of, rollout_of
from firmtrail.http.scalars import DeviceName, Position
from firmtrail.projections import rollout_devices

COUNTED = 2_000
"""Limits the devices that one request looks at."""


class CountQuery(PageQuery, frozen=True, kw_only=True):
    """Says after which device the count continues, and what it has found so far."""

    after: DeviceName | None = None
    first: Position | None = None
    """The size of the log when the count began."""
    installed: Position = 0
    exhausted: Position = 0
    failed: Position = 0
    already: Position = 0
    not_reached: Position = 0
    held: Position = 0
    offered: Position = 0
    pending: Position = 0


class CountedStates(NamedTuple):
    """Holds the counts so far, and the device after which the next part begins."""

    states: dict[str, int]
    last: str | None

    @property
    def looked_at(self) -> int:
        return sum(self.states.values())


async def get_count(call: Call[CountQuery, None]) -> web.Response:
    """Count the devices of a rollout in each state, one part after another."""
    query = call.query
    async with consistent_read(call) as now:
        found = rollout_of(call, now.control)
        matching = await rollout_devices.matching(now.reader, call.log_id, found)
        walked = await rollout_states.page(
            call, now, found, wanted=None, after=query.after or "", limit=COUNTED
        )
    more: dict[Any, int] = rollout_states.counted(walked.devices)
    states = {name: getattr(query, name) + more.get(name, 0) for name in KINDS if name != "waiting"}
    return render.page(
        call,
        "rollout_count.html",
        title=f"States of the {name_of(found)}",
        moment=Moment(now.size),
        rollout=found,
        matching=matching,
        kinds=KINDS,
        counted=CountedStates(states, walked.last),
        first=now.size if query.first is None else query.first,
    )


ROUTES = (page(f"{ROLLOUT}/count", get_count, query=CountQuery, is_view=True),)

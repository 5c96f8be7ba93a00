"""Serves the list of a project's logs, and the operator's commands on its newest log."""

from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.commands.accept_clock import accept_clock
from firmtrail.commands.continue_log import continue_log
from firmtrail.events.times import time_text
from firmtrail.eventstore import log
from firmtrail.http import lists, respond
from firmtrail.http.api.rows import AUDIT, LOCAL_PROJECT, POST, P, command, listing
from firmtrail.http.api.wire import StrictBody, TimeText, time_or_none
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.callers import LOCAL
from firmtrail.http.errors import Conflict
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.publishing.minimum_sizes import LogName


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """Describes a log of the project; new events go to the one that is not closed."""

    number: int
    size: int
    closed: bool
    last_recorded_at: TimeText | None


class WantedLog(StrictBody, frozen=True, kw_only=True):
    """Asks for a new log that continues the project's log; an intact log needs `even_if_whole`."""

    even_if_whole: bool = False


class ContinuedLog(msgspec.Struct, frozen=True, kw_only=True):
    """Names the new log, and says how many events of which log it continues."""

    project: str
    log: int
    continues: int
    size: int


class AcceptedClock(msgspec.Struct, frozen=True, kw_only=True):
    """Names the log that accepts events again, and the time that its next events carry."""

    project: str
    log: int
    recorded_at: str


async def get_logs(call: Call[ListQuery, None]) -> web.StreamResponse:
    """List the project's logs, the oldest first; the last one takes the new events."""
    db, project = call.db, call.project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = 0 if place is None else int(place[0])
        heads = await log.logs(db, project, after=after, limit=limit + 1)
        return lists.page_of(heads, limit, lambda head: (head.number,), _shown)

    count = partial(log.count_logs, db, project)
    return await lists.answer(call, Log, fetch, count, key_type=tuple[int])


def _shown(head: log.Head) -> Log:
    return Log(
        number=head.number,
        size=head.size,
        closed=head.closed,
        last_recorded_at=time_or_none(head.recorded_at_ms if head.size else None),
    )


async def post_local_log(call: Call[Any, WantedLog]) -> web.Response:
    """Start a new log that continues the project's log.

    This is for a log that differs from what was published.
    """
    services, minimum_sizes = call.services, call.services.recorder.minimum_sizes
    head = await log.head(services.db, call.log_id)
    name = LogName(head.project, head.number)
    if services.publisher is not None:
        await services.publisher.check()
    if name not in minimum_sizes.refused and not call.body.even_if_whole:
        raise Conflict(
            "The log is intact, as far as the server knows. It was not continued.",
            code="log_is_whole",
        )
    last = services.publisher and await services.publisher.served.newest_known(name)
    done = await continue_log(
        services.db,
        call.log_id,
        checkpoint=last.note if last else None,
        above=minimum_sizes.highest_number(head.project),
        actor=call.caller.actor,
    )
    minimum_sizes.refused.pop(name, None)
    body = ContinuedLog(
        project=head.project, log=done.number, continues=done.old_number, size=done.size
    )
    return respond.json(201, body)


async def post_local_clock(call: AnyCall) -> web.Response:
    """Accept events in a log whose last event is ahead of the clock."""
    done = await accept_clock(call.services.db, call.log_id)
    body = AcceptedClock(
        project=call.project, log=done.number, recorded_at=time_text(done.recorded_at_ms)
    )
    return respond.json(200, body)


ROUTES = (
    listing(f"{P}/logs", get_logs, AUDIT, Log, reads_log_only=True),
    command(
        POST,
        f"{LOCAL_PROJECT}/logs",
        post_local_log,
        LOCAL,
        body=WantedLog,
        answers={201: ContinuedLog},
        refusals={404, 409},
    ),
    command(
        POST,
        f"{LOCAL_PROJECT}/clock",
        post_local_clock,
        LOCAL,
        answers={200: AcceptedClock},
        refusals={404, 409},
    ),
)

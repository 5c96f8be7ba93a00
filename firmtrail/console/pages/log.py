"""Shows the log of a project: its entries, newest first, by filters, live.

A search for something rare looks at a bounded number of entries, and says how far it came. Every
look at the log is recorded; the live part is recorded once a minute.
"""

from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Moment
from firmtrail.console.meaning import PEOPLE, Wording, wording_of
from firmtrail.console.moments import PageTime, as_time, past_of
from firmtrail.console.rows import AUDIT, PROJECT, PageQuery, page
from firmtrail.events.entry import TYPES, decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import log
from firmtrail.http import query_times, recorded_reads
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.scalars import EntryActor, LogNumber, Position, StreamName, TypeNames
from firmtrail.projections import log_entries
from firmtrail.projections.log_entries import NewestPage, UnknownType, Wanted
from firmtrail.publishing.checkpoint import Verifier
from firmtrail.publishing.minimum_sizes import LogName

ENTRIES = 50
"""The entries on one page."""

KINDS = (
    ("device/", "Devices"),
    ("release/", "Releases"),
    ("rollout/", "Rollouts"),
    ("project/", "Project"),
    ("user/", "People"),
    ("token/", "Tokens"),
)
"""The kinds of subjects that the page links to."""


class LogQuery(PageQuery, frozen=True, kw_only=True):
    """Chooses entries of one of the project's logs, and where the page begins."""

    log: LogNumber | None = None
    subject: StreamName | None = None
    type: TypeNames | None = None
    actor: EntryActor | None = None
    since: PageTime | None = None
    until: PageTime | None = None
    below: Position | None = None
    """Only entries below this position; without it, the page begins with the newest."""


type LogCall = Call[LogQuery, None]


class EntryLine(NamedTuple):
    """Holds one entry of the list, with the words for it."""

    recorded: Recorded
    wording: Wording


async def get_log(call: LogCall) -> web.Response:
    """Show the entries of the log, the newest first."""
    head = await head_of(call, call.query.log)
    past = await past_of(call)
    if past.stop is not None and head.log_id != call.log_id:
        raise invalid_parameter("as_of", "an older log is shown whole: it takes no more events")
    wanted = await _wanted(call, head, head.size if past.stop is None else past.stop)
    await _record(call, head, wanted)
    found = await log_entries.newest_page(call.db, wanted, limit=ENTRIES)
    return render.page(
        call,
        "log.html",
        title="Log",
        moment=Moment(head.size, *past),
        head=head,
        lines=await lines_of(call, found),
        found=found,
        kinds=KINDS,
        types=sorted(TYPES),
        query=call.query,
        entries_max=ENTRIES,
        is_live=past.stop is None and call.query.below is None and not head.closed,
    )


async def head_of(call: AnyCall, number: str | None) -> log.Head:
    """Returns the head of a log of the project by its number; None means the newest. Raises
    `NotFound`."""
    db, log_id = call.db, call.log_id
    if number is not None:
        found = await log.by_number(db, call.project, int(number))
        if found is None:
            raise NotFound(f"The project has no log {number}.")
        log_id = found
    return await log.head(db, log_id)


async def verifier_of(call: AnyCall, head: log.Head) -> Verifier | None:
    """Returns the key that verifies the log's checkpoints; None if the server signs nothing."""
    publisher = call.services.publisher
    if publisher is None:
        return None
    return await publisher.served.verifier(LogName(head.project, head.number))


async def _wanted(call: LogCall, head: log.Head, stop: int) -> Wanted:
    query = call.query
    since, until = as_time("since", query.since), as_time("until", query.until)
    recorded = await query_times.positions_between(call, head.log_id, since, until)
    below = stop if query.below is None else query.below
    stop = min(stop, below, recorded.stop, head.size)
    return Wanted(head.log_id, recorded.start, stop, query.subject, _types(query), query.actor)


def _types(query: LogQuery) -> frozenset[str] | None:
    if query.type is None:
        return None
    try:
        return log_entries.types_of(query.type.split(","))
    except UnknownType as error:
        raise invalid_parameter("type", str(error)) from None


async def _record(call: LogCall, head: log.Head, wanted: Wanted) -> None:
    query = call.query
    named = {"subject": query.subject, "type": query.type, "actor": query.actor}
    filters = {name: text for name, text in named.items() if text is not None}
    if query.part is not None and query.below is None:
        live = {"log": head.number, "live": True, **filters}
        await recorded_reads.record_once_a_minute(call, "/log", live)
        return
    asked = {"log": head.number, "from": wanted.start, "to": wanted.stop, **filters}
    await recorded_reads.record(call, {**asked, "newest_first": True, "limit": ENTRIES})


async def lines_of(call: AnyCall, found: NewestPage) -> list[EntryLine]:
    """Returns the entries with the words for them."""
    recorded = [decode(position, text) for position, _, text in found.entries]
    wording = await wording_of(call, names_in(recorded))
    return [EntryLine(each, wording) for each in recorded]


def names_in(recorded: Iterable[Recorded]) -> set[str]:
    """Returns the actors and streams that events name, also in their members."""
    names = set()
    for each in recorded:
        people = (getattr(each.event, member, None) for member in PEOPLE)
        names |= {each.actor, each.stream, *(f"user/{name}" for name in people if name)}
    return names


ROUTES = (page(f"{PROJECT}/log", get_log, AUDIT, has_past=True, query=LogQuery),)

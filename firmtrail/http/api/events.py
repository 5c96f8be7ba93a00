"""Serves the log's entries as they are stored, and the free texts of events."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.commands import access as commands
from firmtrail.events.entry import decode
from firmtrail.eventstore import free_texts, log
from firmtrail.http import query_times, recorded_reads, respond
from firmtrail.http.api.rows import ADMINISTER, AUDIT, DELETE, L, P, command, read, resource
from firmtrail.http.call import Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.logs import log_of
from firmtrail.http.respond import NDJSON
from firmtrail.http.route import Route
from firmtrail.http.scalars import EntryActor, Position, StreamName, Time, TypeNames
from firmtrail.projections import log_entries
from firmtrail.projections.log_entries import UnknownType, Wanted

CLOUDEVENT = "application/cloudevents+json"


class EventsQuery(
    msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "stop": "to"}
):
    """Chooses entries: from <= position < to, since <= recorded < until, of a stream, of some
    types, of an actor.

    A stream that ends with "/" stands for all that begin with it. `limit` sets how many the answer
    has at most; `positions` puts its position and a tab before each; `newest_first` begins with
    the last entry.
    """

    start: Position = 0
    stop: Position | None = None
    since: Time | None = None
    until: Time | None = None
    stream: StreamName | None = None
    type: TypeNames | None = None
    actor: EntryActor | None = None
    limit: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    positions: bool = False
    newest_first: bool = False


class Text(msgspec.Struct, frozen=True):
    """Holds the free text of an event; "erased" if it was erased."""

    text: str


type EventsCall = Call[EventsQuery, None]

type Pages = AsyncIterator[log.EntryPage]


async def get_events(call: EventsCall) -> web.StreamResponse:
    """Return the log's entries as they are stored, one per line.

    Each line has exactly the bytes that were hashed. The end is fixed at the start, so events
    recorded meanwhile do not prolong the answer. One page is read at a time: neither the log's
    length nor a slow reader costs memory.
    """
    with call.services.limits.replays.enter(call.caller):
        head = await log.head(call.db, await log_of(call))
        wanted = await _wanted(call, head)
        await recorded_reads.record(call, _asked(call.query, head.number, wanted))
        write = _numbered if call.query.positions else _lines
        chunks = write(_limited(_pages(call, wanted), call.query.limit))
        headers = {respond.LOG_SIZE: str(head.size), "Cache-Control": "private, no-cache"}
        return await respond.stream(call, respond.NDJSON, chunks, headers)


async def _wanted(call: EventsCall, head: log.Head) -> Wanted:
    """Returns the entries that are asked for, with times resolved to positions."""
    query = call.query
    recorded = await query_times.positions_between(call, head.log_id, query.since, query.until)
    start = max(query.start, recorded.start)
    stop = min(head.size if query.stop is None else query.stop, recorded.stop, head.size)
    types = None
    if query.type is not None:
        try:
            types = log_entries.types_of(query.type.split(","))
        except UnknownType as error:
            raise invalid_parameter("type", str(error)) from None
    wanted = Wanted(head.log_id, start, stop, query.stream, types, query.actor)
    if query.limit is not None and wanted.is_range:
        return wanted.at_most(query.limit, newest_first=query.newest_first)
    return wanted


def _asked(query: EventsQuery, number: int, wanted: Wanted) -> dict[str, object]:
    named = {
        "stream": query.stream,
        "type": query.type,
        "actor": query.actor,
        "limit": query.limit,
        "newest_first": query.newest_first or None,
    }
    filters = {name: value for name, value in named.items() if value is not None}
    return {"log": number, "from": wanted.start, "to": wanted.stop, **filters}


async def _pages(call: EventsCall, wanted: Wanted) -> Pages:
    db = call.db
    if call.query.newest_first:
        async for part in log_entries.newest_first(db, wanted):
            yield part.entries
    else:
        async for page in log_entries.oldest_first(db, wanted):
            yield page


async def _limited(pages: Pages, limit: int | None) -> Pages:
    async for page in pages:
        if limit is None:
            yield page
            continue
        yield page[:limit]
        limit -= len(page)
        if limit <= 0:
            return


async def _lines(pages: Pages) -> AsyncGenerator[bytes]:
    async for page in pages:
        yield "\n".join([*(text for _, _, text in page), ""]).encode() if page else b""


async def _numbered(pages: Pages) -> AsyncGenerator[bytes]:
    async for page in pages:
        yield "".join(f"{position}\t{text}\n" for position, _, text in page).encode()


async def get_event(call: Call[Any, None]) -> web.Response:
    """Return one entry as it is stored, with exactly the bytes that were hashed."""
    head, position = await _place(call)
    await recorded_reads.record(call, {"log": head.number})
    async for [(_, _, text)] in log.read(call.db, head.log_id, position, position + 1):
        headers = {respond.LOG_SIZE: str(head.size)}
        return respond.encoded_resource(call, CLOUDEVENT, text.encode(), headers)
    raise AssertionError("a position below the size exists, or the log is corrupt")


async def get_text(call: Call[Any, None]) -> web.Response:
    """Return the free text of an event, such as the reason for a command."""
    head, position = await _place(call)
    entry, text = await free_texts.entry_and_text(call.db, head.log_id, position)
    event = decode(position, entry).event
    if event.TEXT is None or getattr(event, event.TEXT) is None:
        raise NotFound("This event has no free text.")
    await recorded_reads.record(call, {"log": head.number})
    return respond.resource(call, Text("erased" if text is None else text), head.size)


async def delete_text(call: Call[Any, None]) -> web.Response:
    """Erase the free text of an event."""
    head = await log.head(call.db, await log_of(call))
    position = int(call.path("position") or -1)
    erase = commands.erase_text(head, position, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, erase)
    await call.services.db.scrub()
    return respond.no_content()


async def _place(call: Call[Any, None]) -> tuple[log.Head, int]:
    """Returns the log and the position that the path names."""
    head = await log.head(call.db, await log_of(call))
    position = int(call.path("position") or -1)
    if not 0 <= position < head.size:
        raise NotFound("The log has no such position.")
    return head, position


_PRUNED: dict[str, Any] = {"refusals": {410}, "is_view": True, "reads_standby": True}


def _of_log(prefix: str) -> tuple[Route, ...]:
    event = f"{prefix}/events/{{position}}"
    return (
        read(
            f"{prefix}/events",
            get_events,
            AUDIT,
            {200: NDJSON},
            query=EventsQuery,
            refusals={410},
            is_view=True,
            reads_standby=True,
            sends=("Vary",),
        ),
        resource(event, get_event, AUDIT, CLOUDEVENT, **_PRUNED),
        resource(f"{event}/text", get_text, AUDIT, Text, **_PRUNED),
        command(DELETE, f"{event}/text", delete_text, ADMINISTER),
    )


ROUTES = (*_of_log(P), *_of_log(L))

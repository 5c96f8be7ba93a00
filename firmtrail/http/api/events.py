"""Serves the log's entries as they are stored, and the free texts of events."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.commands import access as commands
from firmtrail.events.entry import decode, envelope_of, types_named
from firmtrail.eventstore import free_texts, log, replay, sizes
from firmtrail.http import query_times, recorded_reads, respond
from firmtrail.http.api.rows import ADMINISTER, AUDIT, DELETE, L, P, command, read, resource
from firmtrail.http.call import Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.logs import log_of
from firmtrail.http.respond import NDJSON
from firmtrail.http.route import Route
from firmtrail.http.scalars import Position, StreamName, Time, TypeNames

CLOUDEVENT = "application/cloudevents+json"


class EventsQuery(
    msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "stop": "to"}
):
    """Chooses entries: from <= position < to, since <= recorded < until, of a stream, of some
    types.

    `limit` sets how many the answer has at most; `positions` puts its position and a tab before
    each.
    """

    start: Position = 0
    stop: Position | None = None
    since: Time | None = None
    until: Time | None = None
    stream: StreamName | None = None
    type: TypeNames | None = None
    limit: Annotated[int, Meta(ge=1, le=2**53 - 1)] | None = None
    positions: bool = False


class Text(msgspec.Struct, frozen=True):
    """Holds the free text of an event; "erased" if it was erased."""

    text: str


type EventsCall = Call[EventsQuery, None]

type Pages = AsyncIterator[log.EntryPage]


class EventRange(NamedTuple):
    """Names the entries of a log that are asked for: start <= position < stop, of these types."""

    log_id: int
    start: int
    stop: int
    types: frozenset[str] | None


async def get_events(call: EventsCall) -> web.StreamResponse:
    """Return the log's entries as they are stored, one per line.

    Each line has exactly the bytes that were hashed. The end is fixed at the start, so events
    recorded meanwhile do not prolong the answer. One page is read at a time: neither the log's
    length nor a slow reader costs memory.
    """
    with call.services.replays.enter(call.caller):
        head = await log.head(call.services.db, await log_of(call))
        wanted = await _range(call, head)
        await recorded_reads.record(call, _asked(call.query, head.number, wanted))
        write = _numbered if call.query.positions else _lines
        chunks = write(_limited(_pages(call, wanted), call.query.limit))
        headers = {respond.LOG_SIZE: str(head.size), "Cache-Control": "private, no-cache"}
        return await respond.stream(call, respond.NDJSON, chunks, headers)


async def _range(call: EventsCall, head: log.Head) -> EventRange:
    """Returns the range, with times resolved to positions: times never decrease along the log."""
    query, db = call.query, call.services.db
    start = query.start
    stop = head.size if query.stop is None else min(query.stop, head.size)
    if query.since is not None:
        since_ms = query_times.parameter_ms("since", query.since)
        start = max(start, await sizes.at(db, head.log_id, since_ms - 1))
    if query.until is not None:
        until_ms = query_times.parameter_ms("until", query.until)
        stop = min(stop, await sizes.at(db, head.log_id, until_ms - 1))
    if query.limit is not None and query.stream is None and query.type is None:
        stop = min(stop, start + query.limit)
    return EventRange(head.log_id, start, stop, _types(query.type))


def _types(names: str | None) -> frozenset[str] | None:
    """Returns the types named. An unknown name is refused, so that a mistyped one does not look
    like none."""
    if names is None:
        return None
    wanted: set[str] = set()
    for name in names.split(","):
        types = types_named(name)
        if not types:
            raise invalid_parameter("type", f"there is no event type {name}")
        wanted |= types
    return frozenset(wanted)


def _asked(query: EventsQuery, number: int, wanted: EventRange) -> dict[str, object]:
    named = {"stream": query.stream, "type": query.type, "limit": query.limit}
    filters = {name: value for name, value in named.items() if value is not None}
    return {"log": number, "from": wanted.start, "to": wanted.stop, **filters}


def _pages(call: EventsCall, wanted: EventRange) -> Pages:
    db, (log_id, start, stop, types), stream = call.services.db, wanted, call.query.stream
    if stream is not None:
        pages = replay.read_stream(db, log_id, stream, start=start, stop=stop)
    else:
        pages = log.read(db, log_id, start, stop)
    return pages if types is None else _of_types(pages, types)


async def _of_types(pages: Pages, types: frozenset[str]) -> Pages:
    """Keeps the entries of these types. Empty pages stay: they show that reading continues."""
    async for page in pages:
        yield [entry for entry in page if envelope_of(entry[2]).type in types]


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
    async for [(_, _, text)] in log.read(call.services.db, head.log_id, position, position + 1):
        headers = {respond.LOG_SIZE: str(head.size)}
        return respond.encoded_resource(call, CLOUDEVENT, text.encode(), headers)
    raise AssertionError("a position below the size exists, or the log is corrupt")


async def get_text(call: Call[Any, None]) -> web.Response:
    """Return the free text of an event, such as the reason for a command."""
    head, position = await _place(call)
    entry, text = await free_texts.entry_and_text(call.services.db, head.log_id, position)
    event = decode(position, entry).event
    if event.TEXT is None or getattr(event, event.TEXT) is None:
        raise NotFound("This event has no free text.")
    await recorded_reads.record(call, {"log": head.number})
    return respond.resource(call, Text("erased" if text is None else text), head.size)


async def delete_text(call: Call[Any, None]) -> web.Response:
    """Erase the free text of an event."""
    head = await log.head(call.services.db, await log_of(call))
    position = int(call.path("position") or -1)
    erase = commands.erase_text(head, position, actor=call.caller.actor)
    await call.services.recorder.act(call.log_id, erase)
    await call.services.db.scrub()
    return respond.no_content()


async def _place(call: Call[Any, None]) -> tuple[log.Head, int]:
    """Returns the log and the position that the path names."""
    head = await log.head(call.services.db, await log_of(call))
    position = int(call.path("position") or -1)
    if not 0 <= position < head.size:
        raise NotFound("The log has no such position.")
    return head, position


def _of_log(prefix: str) -> tuple[Route, ...]:
    event = f"{prefix}/events/{{position}}"
    return (
        read(
            f"{prefix}/events",
            get_events,
            AUDIT,
            {200: NDJSON},
            query=EventsQuery,
            is_view=True,
            sends=("Vary",),
        ),
        resource(event, get_event, AUDIT, CLOUDEVENT, is_view=True),
        resource(f"{event}/text", get_text, AUDIT, Text, is_view=True),
        command(DELETE, f"{event}/text", delete_text, ADMINISTER),
    )


ROUTES = (*_of_log(P), *_of_log(L))

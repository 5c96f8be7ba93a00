"""What auditors call: the log as it is stored, and who read it."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.access import reads
from firmtrail.access.reads import Which
from firmtrail.events.entry import decode, envelope_of, types_named
from firmtrail.events.times import time_text
from firmtrail.eventstore import log, replay, sizes, texts
from firmtrail.http import answers, lists, query_times, recorded_reads, respond
from firmtrail.http.answers import time_or_none
from firmtrail.http.bodies import AccessRecordQuery, EventsQuery
from firmtrail.http.call import Call
from firmtrail.http.errors import NotFound, invalid_parameter
from firmtrail.http.lists import ListPage, ListQuery, SortKey
from firmtrail.http.logs import log_of

CLOUDEVENT = "application/cloudevents+json"

type EventsCall = Call[EventsQuery, None]
type Pages = AsyncIterator[list[tuple[int, int, str]]]


class Range(NamedTuple):
    """Which entries of a log are asked for: start <= position < stop, and which of these."""

    log_id: int
    start: int
    stop: int
    types: frozenset[str] | None


async def get_events(call: EventsCall) -> web.StreamResponse:
    """The entries, byte for byte as they were hashed, one a line.

    The end is fixed at the start, so what is recorded meanwhile does not prolong the answer. A
    page is read at a time: neither the log's length nor a slow reader costs memory.
    """
    with call.services.replays.enter(call.caller):
        head = await log.head(call.services.db, await log_of(call))
        wanted = await _range(call, head)
        await recorded_reads.record(call, _asked(call.query, head.number, wanted))
        write = _numbered if call.query.positions else _lines
        chunks = write(_limited(_pages(call, wanted), call.query.limit))
        headers = {respond.LOG_SIZE: str(head.size), "Cache-Control": "private, no-cache"}
        return await respond.stream(call, respond.NDJSON, chunks, headers)


async def _range(call: EventsCall, head: log.Head) -> Range:
    """Times are resolved to positions: they never decrease along the log."""
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
    return Range(head.log_id, start, stop, _types(query.type))


def _types(names: str | None) -> frozenset[str] | None:
    """An unknown name is refused: an auditor who mistypes one must not be told "none"."""
    if names is None:
        return None
    wanted: set[str] = set()
    for name in names.split(","):
        types = types_named(name)
        if not types:
            raise invalid_parameter("type", f"there is no event {name}")
        wanted |= types
    return frozenset(wanted)


def _asked(query: EventsQuery, number: int, wanted: Range) -> dict[str, object]:
    named = {"stream": query.stream, "type": query.type, "limit": query.limit}
    filters = {name: value for name, value in named.items() if value is not None}
    return {"log": number, "from": wanted.start, "to": wanted.stop, **filters}


def _pages(call: EventsCall, wanted: Range) -> Pages:
    db, (log_id, start, stop, types), stream = call.services.db, wanted, call.query.stream
    if stream is not None:
        pages = replay.read_stream(db, log_id, stream, start=start, stop=stop)
    else:
        pages = log.read(db, log_id, start, stop)
    return pages if types is None else _of_types(pages, types)


async def _of_types(pages: Pages, types: frozenset[str]) -> Pages:
    """Pages may be left empty: they show that the reading goes on."""
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
    """One entry, byte for byte as it was hashed."""
    head, position = await _place(call)
    await recorded_reads.record(call, {"log": head.number})
    async for [(_, _, text)] in log.read(call.services.db, head.log_id, position, position + 1):
        headers = {respond.LOG_SIZE: str(head.size)}
        return respond.encoded_resource(call, CLOUDEVENT, text.encode(), headers)
    raise AssertionError("a position below the size is there, or the log is corrupt")


async def get_text(call: Call[Any, None]) -> web.Response:
    """The free text beside an event: why somebody gave an order, say."""
    head, position = await _place(call)
    entry, text = await texts.beside(call.services.db, head.log_id, position)
    event = decode(position, entry).event
    if event.TEXT is None or getattr(event, event.TEXT) is None:
        raise NotFound("This event has no free text.")
    await recorded_reads.record(call, {"log": head.number})
    return respond.resource(call, answers.Text("erased" if text is None else text), head.size)


async def _place(call: Call[Any, None]) -> tuple[log.Head, int]:
    """The log and the position of the path."""
    head = await log.head(call.services.db, await log_of(call))
    position = int(call.path("position") or -1)
    if not 0 <= position < head.size:
        raise NotFound("The log has no such position.")
    return head, position


async def get_logs(call: Call[ListQuery, None]) -> web.StreamResponse:
    """The project's logs, the oldest first."""
    db, project = call.services.db, call.project

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = 0 if place is None else int(place[0])
        heads = await log.logs(db, project, after=after, limit=limit + 1)
        items = [_shown(head) for head in heads[:limit]]
        return ListPage(items, lists.next_key(heads, limit, lambda head: (head.number,)))

    async def count() -> int:
        return await log.count_logs(db, project)

    return await lists.answer(call, answers.Log, fetch, count, key_type=tuple[int])


def _shown(head: log.Head) -> answers.Log:
    return answers.Log(
        number=head.number,
        size=head.size,
        closed=head.closed,
        last_recorded_at=time_or_none(head.recorded_at_ms if head.size else None),
    )


async def get_access_record(call: Call[AccessRecordQuery, None]) -> web.StreamResponse:
    """Who read the log or took a list away, the newest first."""
    db, which = call.services.db, _which(call)

    async def fetch(place: SortKey | None, limit: int) -> ListPage:
        after = None if place is None else (int(place[0]), str(place[1]))
        rows = await reads.page(db, which, after=after, limit=limit + 1)
        end = lists.next_key(rows, limit, lambda read: (read.at_ms, read.request_id))
        return ListPage([_told(read) for read in rows[:limit]], end)

    async def count() -> int:
        return await reads.count(db, which)

    return await lists.answer(call, answers.ReadRecord, fetch, count, key_type=tuple[int, str])


def _which(call: Call[AccessRecordQuery, None]) -> Which:
    query, which = call.query, Which(call.project, actor=call.query.actor)
    if query.since is not None:
        which = which._replace(since_ms=query_times.parameter_ms("since", query.since))
    if query.until is not None:
        which = which._replace(until_ms=query_times.parameter_ms("until", query.until))
    return which


def _told(read: reads.Read) -> answers.ReadRecord:
    return answers.ReadRecord(
        at=time_text(read.at_ms),
        actor=read.actor,
        path=read.path,
        asked=msgspec.json.decode(read.asked),
        request_id=read.request_id,
        address=read.address,
    )

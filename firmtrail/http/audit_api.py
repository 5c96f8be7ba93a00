"""What auditors call: the log as it is stored."""

from collections.abc import AsyncIterator

from aiohttp import web

from firmtrail.eventstore import log
from firmtrail.http import respond
from firmtrail.http.bodies import EventsQuery
from firmtrail.http.call import Call

type EventsCall = Call[EventsQuery, None]


async def get_events(call: EventsCall) -> web.StreamResponse:
    """The entries, byte for byte as they were hashed, one a line.

    The end is fixed at the start, so what is recorded meanwhile does not prolong the answer. A
    page is read at a time: neither the log's length nor a slow reader costs memory.
    """
    query = call.query
    head = await log.head(call.services.db, call.log_id)
    stop = head.size if query.stop is None else min(query.stop, head.size)
    if query.limit is not None:
        stop = min(stop, query.start + query.limit)
    pages = log.read(call.services.db, call.log_id, query.start, stop)
    chunks = _numbered(pages) if query.positions else _lines(pages)
    return await respond.stream(
        call,
        respond.NDJSON,
        chunks,
        {respond.LOG_SIZE: str(head.size), "Cache-Control": "private, no-cache"},
    )


type Pages = AsyncIterator[list[tuple[int, int, str]]]


async def _lines(pages: Pages) -> AsyncIterator[bytes]:
    async for page in pages:
        yield "\n".join([*(text for _, _, text in page), ""]).encode()


async def _numbered(pages: Pages) -> AsyncIterator[bytes]:
    async for page in pages:
        yield "".join(f"{position}\t{text}\n" for position, _, text in page).encode()

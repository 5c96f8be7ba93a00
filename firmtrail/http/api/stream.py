"""Streams events as they are recorded: server-sent events (WHATWG HTML, 9.2).

A stream reads the log and waits at its end. A reader's place is a position and nothing else: the
server keeps no queue for it, and a reader that reconnects continues at its position, on any server.
With `from` or Last-Event-ID the stream begins with earlier events, otherwise with the next one.

Between two pages the stream keeps no connection to the database.
"""

import re
from collections.abc import AsyncGenerator

import msgspec
from aiohttp import web

from firmtrail.events.entry import envelope_of
from firmtrail.eventstore import log
from firmtrail.http import recorded_reads, respond
from firmtrail.http.api.rows import AUDIT, P, read
from firmtrail.http.call import Call
from firmtrail.http.errors import BadRequest, Conflict
from firmtrail.http.scalars import POSITION_PATTERN, Position
from firmtrail.http.watch import grew_or_closed

EVENT_STREAM = "text/event-stream"

SILENT_S_MAX = 15
"""After so many seconds without an event the stream sends a comment, to show that it is alive."""

RETRY_MS = 2_000
"""After a break, browsers reconnect in so many milliseconds."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from"}):
    """Chooses the first position; without it the stream begins at the log's end. Last-Event-ID
    wins."""

    start: Position | None = None


type StreamCall = Call[StreamQuery, None]


async def get_stream(call: StreamCall) -> web.StreamResponse:
    """Stream the log's entries as they are recorded, as server-sent events.

    Each event has the entry's type, and its position as the id.
    """
    with call.services.limits.streams.enter(call.caller):
        head = await log.head(call.db, call.log_id)
        start = _start(call, head.size)
        await recorded_reads.record(call, {"log": head.number, "from": start})
        events = _events(call, start, head.size)
        headers = {respond.LOG_SIZE: str(head.size), **_HEADERS}
        return await respond.stream(call, EVENT_STREAM, events, headers)


def _start(call: StreamCall, size: int) -> int:
    """Returns the first position. Raises a problem if the caller has seen more than the log has: it
    read another log."""
    start = size if call.query.start is None else call.query.start
    if last := call.request.headers.get("Last-Event-ID"):
        start = _position(last) + 1
    if start > size:
        raise Conflict(
            f"The log has {size} events; this position belongs to another log.", code="not_this_log"
        )
    return start


def _position(text: str) -> int:
    if re.match(POSITION_PATTERN, text) is None:
        raise BadRequest("Last-Event-ID has to be the id of an event of this stream: a position.")
    return int(text)


async def _events(call: StreamCall, start: int, size: int) -> AsyncGenerator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    is_over = False
    while start < size or not is_over:
        async for page in log.read(call.reading(), call.log_id, start, size):
            yield "".join(_event(position, text) for position, _, text in page).encode()
            start += len(page)
        watch = call.services.watch
        reached = await watch.until(call.log_id, grew_or_closed(size), SILENT_S_MAX)
        if reached is not None:
            size, is_over = reached.size, bool(reached.is_closed)
        elif not (is_over := call.services.readiness.is_draining):
            yield b":\n\n"


def _event(position: int, text: str) -> str:
    return f"id: {position}\nevent: {envelope_of(text).type}\ndata: {text}\n\n"


ROUTES = (
    read(
        f"{P}/stream",
        get_stream,
        AUDIT,
        {200: EVENT_STREAM},
        query=StreamQuery,
        refusals={400, 409, 410},
        is_view=True,
        reads_standby=True,
        is_endless=True,
    ),
)

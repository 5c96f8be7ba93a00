"""What goes on in the log, as it happens: server-sent events (WHATWG HTML, 9.2).

A stream is a reading of the log that waits at its end. The reader's place is a position, nothing
else: no queue is kept for him, and a reader who comes back goes on where he was, on any server. He
is given what was recorded before he came with `from` or Last-Event-ID; else what is recorded from
then on.

Between two pages nothing of the database is held.
"""

import re
from collections.abc import AsyncGenerator

from aiohttp import web

from firmtrail.events.entry import envelope_of
from firmtrail.eventstore import log
from firmtrail.http import recorded_reads, respond
from firmtrail.http.bodies import StreamQuery
from firmtrail.http.call import Call
from firmtrail.http.errors import BadRequest, Conflict
from firmtrail.http.scalars import POSITION_PATTERN
from firmtrail.http.watch import grew_or_closed

EVENT_STREAM = "text/event-stream"
SILENT_S_MAX = 15
"""After which a stream shows that it is alive."""

RETRY_MS = 2_000

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

type StreamCall = Call[StreamQuery, None]


async def get_stream(call: StreamCall) -> web.StreamResponse:
    """The newest log's entries, each as an event of its type, with its position as the id."""
    with call.services.streams.enter(call.caller):
        head = await log.head(call.services.db, call.log_id)
        start = _start(call, head.size)
        await recorded_reads.record(call, {"log": head.number, "from": start})
        events = _events(call, start, head.size)
        headers = {respond.LOG_SIZE: str(head.size), **_HEADERS}
        return await respond.stream(call, EVENT_STREAM, events, headers)


def _start(call: StreamCall, size: int) -> int:
    """Raises a problem where the caller has seen more than the log has: it was another log."""
    start = size if call.query.start is None else call.query.start
    if last := call.request.headers.get("Last-Event-ID"):
        start = _position(last) + 1
    if start > size:
        raise Conflict(f"The log ends at {size}: this is not the log.", code="not_this_log")
    return start


def _position(text: str) -> int:
    if re.match(POSITION_PATTERN, text) is None:
        raise BadRequest("Last-Event-ID is the id of an event of this stream, a position.")
    return int(text)


async def _events(call: StreamCall, start: int, size: int) -> AsyncGenerator[bytes]:
    yield f"retry: {RETRY_MS}\n\n".encode()
    is_over = False
    while start < size or not is_over:
        async for page in log.read(call.services.db, call.log_id, start, size):
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

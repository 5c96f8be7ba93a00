"""How an answer is put on the wire: status, headers, ETag, or a stream.

An ETag is a hash of the body without the times a device was last seen; how far the log was read
is a header and never part of a body. A stream that fails breaks its connection.
"""

import re
from collections.abc import AsyncIterator, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.http.call import AnyCall
from firmtrail.http.errors import STREAM, Stale

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
BYTES = "application/octet-stream"
LOG_SIZE = "Firmtrail-Log-Size"

_LAST_SEEN = re.compile(rb'"last_seen_at":(?:null|"[^"]*")')
_encode = msgspec.json.Encoder().encode


def json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer that no one keeps: to a command."""
    return web.Response(status=status, body=_encode(body), content_type=JSON, headers=headers)


def nothing() -> web.Response:
    return web.Response(status=204)


def resource(
    call: AnyCall, body: Any, log_size: int | None = None, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A state that was read: with its ETag, as 304 if the client has it."""
    encoded = _encode(body)
    etag = etag_of(encoded)
    sent = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache", **(headers or {})}
    if log_size is not None:
        sent[LOG_SIZE] = str(log_size)
    if has_it(call.request, etag):
        return web.Response(status=304, headers=sent)
    return web.Response(body=encoded, content_type=JSON, headers=sent)


def has_it(request: web.Request, etag: str) -> bool:
    """Whether the request says that its client has what this ETag is of."""
    is_read = request.method in {"GET", "HEAD"}
    return is_read and "If-None-Match" in request.headers and is_among(request.if_none_match, etag)


def changed(body: Any, log_size: int) -> web.Response:
    """A state as a command left it, with the ETag that a read of it would have."""
    encoded = _encode(body)
    headers = {
        "ETag": f'"{etag_of(encoded)}"',
        LOG_SIZE: str(log_size),
        "Cache-Control": "no-store",
    }
    return web.Response(body=encoded, content_type=JSON, headers=headers)


def etag_of(encoded: bytes) -> str:
    """Strings escape their quotes, so what the pattern finds is always the member itself."""
    return blake2b(_LAST_SEEN.sub(b"", encoded), digest_size=16).hexdigest()


def check_match(call: AnyCall, body: Any) -> None:
    """Raises `Stale` if the request's If-Match names another state than `body`."""
    if "If-Match" in call.request.headers:
        wanted = call.request.if_match
        if not is_among(wanted, etag_of(_encode(body)), weak_counts=False):
            raise Stale("It is not in the state that If-Match names any more.")


def is_among(etags: tuple[Any, ...] | None, etag: str, *, weak_counts: bool = True) -> bool:
    """RFC 9110, 13.1: If-None-Match compares weakly, If-Match strongly."""
    return any(
        each.value in {"*", etag} and (weak_counts or not each.is_weak) for each in etags or ()
    )


async def stream(
    call: AnyCall,
    media: str,
    chunks: AsyncIterator[bytes],
    headers: Mapping[str, str],
    *,
    status: int = 200,
) -> web.StreamResponse:
    """Send chunks as they come. The first is made before the status is sent: it can still fail."""
    first = await anext(chunks, b"")
    response = web.StreamResponse(
        status=status, headers={**headers, "X-Request-Id": call.request_id}
    )
    response.content_type = media
    if media == CSV:
        response.charset = "utf-8"
    call.request[STREAM] = response
    await response.prepare(call.request)
    if call.request.method != "HEAD":
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
    await response.write_eof()
    return response

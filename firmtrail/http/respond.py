"""Sends answers: status, headers and ETag, or a stream.

An ETag is a hash of the body without the times at which devices were last seen. The size of the log
that was read is a header, and never part of a body. A stream that fails breaks its connection.

A stream is pulled: the next chunk is made when the previous one was sent, so a slow reader costs
one chunk of memory and no database resources. A client is cut off if it takes less than
`WRITE_BYTES` within the server's write timeout, or if its credential is no longer valid.
"""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from hashlib import blake2b
from time import monotonic
from typing import Any

import msgspec
from aiohttp import hdrs, web
from multidict import istr

from firmtrail.commands.once import CommandAnswer, once
from firmtrail.http import origin
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import STREAM, Stale
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand
from firmtrail.rules.device import Refused

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
BYTES = "application/octet-stream"
LOG_SIZE: str = istr("Firmtrail-Log-Size")
ETAG: str = istr("ETag")
"""The spelling of RFC 9110; aiohttp's own constant differs, and headers are merged by spelling."""
NO_STORE = {"Cache-Control": "no-store"}
"""Marks answers that may show a secret, or that are true only for a moment."""

WRITE_BYTES = 256 * 1024
CHECK_S = 15
"""Sets how often the caller of a running stream is authenticated again."""

COMPRESSED = frozenset({NDJSON, CSV})
"""Lists the media types that are gzipped on request. Gzip would delay server-sent events."""

_LAST_SEEN = re.compile(rb'"last_seen_at":(?:null|"[^"]*")')
_NO_WEIGHT = re.compile(r"q=0(\.0{0,3})?")
_encode = msgspec.json.Encoder().encode


def json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns an answer to a command, which no cache keeps."""
    return web.Response(status=status, body=_encode(body), content_type=JSON, headers=headers)


async def run_once(
    call: AnyCall, command: LogCommand[CommandAnswer], *, log_id: int | None = None
) -> web.Response:
    """Runs a command once for its Idempotency-Key, and returns its answer. The command runs on the
    project's newest log, or on the log `log_id`."""
    answer = await once(call.services.recorder, log_id or call.log_id, call.key, command)
    return json(answer.status, answer.body, NO_STORE)


async def refused_once(call: AnyCall, refused: Refused) -> web.Response:
    """Answers a refusal that was found before the command began: the refusal is kept for the
    Idempotency-Key, as the command's own would be, and a request that was answered before gets its
    first answer."""

    async def refuse(_commit: Commit) -> CommandAnswer:
        raise refused

    return await run_once(call, refuse)


def no_content() -> web.Response:
    return web.Response(status=204)


def resource(
    call: AnyCall,
    body: Any,
    log_size: int | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    state: Any = None,
) -> web.Response:
    """Returns a state that was read, with its ETag; as 304 if the client already has it. `state` is
    what the ETag covers, if that is not the whole body."""
    sent = dict(headers or {})
    if log_size is not None:
        sent[LOG_SIZE] = str(log_size)
    covered = None if state is None else _encode(state)
    return encoded_resource(call, JSON, _encode(body), sent, covered=covered)


def encoded_resource(
    call: AnyCall,
    media: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    covered: bytes | None = None,
) -> web.Response:
    """Returns bytes that are already encoded, otherwise like `resource`."""
    etag = etag_of(body if covered is None else covered)
    sent = {ETAG: f'"{etag}"', hdrs.CACHE_CONTROL: "private, no-cache", **headers}
    if client_has(call.request, etag):
        return web.Response(status=304, headers=sent)
    charset = "utf-8" if media.startswith("text/") else None
    return web.Response(body=body, content_type=media, charset=charset, headers=sent)


def client_has(request: web.Request, etag: str) -> bool:
    """Returns whether If-None-Match names this ETag; it compares weakly (RFC 9110, 13.1)."""
    wanted = request.headers.get(hdrs.IF_NONE_MATCH)
    if wanted is None or request.method not in {"GET", "HEAD"}:
        return False
    if wanted == f'"{etag}"':  # every poll sends this form, so skip parsing
        return True
    return any(each.value in {"*", etag} for each in request.if_none_match or ())


def changed_resource(body: Any, log_size: int) -> web.Response:
    """Returns the state that a command left, with the ETag that a read of it would have."""
    encoded = _encode(body)
    headers = {"ETag": f'"{etag_of(encoded)}"', LOG_SIZE: str(log_size), **NO_STORE}
    return web.Response(body=encoded, content_type=JSON, headers=headers)


def etag_of(encoded: bytes) -> str:
    """Returns a hash of the body without the times at which devices were last seen. Strings escape
    their quotes, so the pattern never matches inside a string."""
    if b'"last_seen_at":' in encoded:
        encoded = _LAST_SEEN.sub(b"", encoded)
    return blake2b(encoded, digest_size=16).hexdigest()


def check_match(call: AnyCall, body: Any) -> None:
    """Raises `Stale` if the request's If-Match names another state than `body`."""
    request = call.request
    if "If-Match" in request.headers and not matches_strongly(
        request.if_match, etag_of(_encode(body))
    ):
        raise Stale("The state that If-Match names is no longer current: read it again.")


def matches_strongly(etags: tuple[Any, ...] | None, etag: str) -> bool:
    """Returns whether If-Match names an ETag; it compares strongly (RFC 9110, 13.1)."""
    return any(each.value in {"*", etag} and not each.is_weak for each in etags or ())


async def stream(
    call: AnyCall,
    media: str,
    chunks: AsyncGenerator[bytes],
    headers: Mapping[str, str],
    *,
    status: int = 200,
) -> web.StreamResponse:
    """Sends chunks as they come.

    The first chunk is made before the status is sent, so its failure still becomes a problem. An
    empty chunk sends nothing; it only checks that the client is still connected.
    """
    response = _streamed(call, media, headers, status)
    async with aclosing(chunks):
        first = await anext(chunks, b"")
        call.request[STREAM] = response
        await response.prepare(call.request)
        if call.request.method != "HEAD":
            await _send(call, response, first)
            check_at = monotonic() + CHECK_S
            async for chunk in chunks:
                if monotonic() >= check_at:
                    await call.authenticate(call.request)
                    check_at = monotonic() + CHECK_S
                await _send(call, response, chunk)
    async with _in_time(call, _connected(call)):
        await response.write_eof()
    return response


def _streamed(
    call: AnyCall, media: str, headers: Mapping[str, str], status: int
) -> web.StreamResponse:
    """Returns the response to stream with; gzip compresses it if the client accepts that."""
    response = web.StreamResponse(
        status=status, headers={**headers, "X-Request-Id": call.request_id}
    )
    origin.protect(response.headers, call.services.clients.scheme(call.request))
    response.content_type = media
    if media == CSV:
        response.charset = "utf-8"
    if media in COMPRESSED:
        response.headers.add("Vary", "Accept-Encoding")
        if call.request.method != "HEAD" and accepts_gzip(call.request):
            response.enable_compression(web.ContentCoding.gzip)
    return response


def _connected(call: AnyCall) -> asyncio.Transport:
    transport = call.request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has disconnected")
    return transport


async def _send(call: AnyCall, response: web.StreamResponse, chunk: bytes) -> None:
    """Writes a chunk in parts. Raises `ConnectionError` if the client has disconnected or does not
    read."""
    transport = _connected(call)
    view = memoryview(chunk)
    for start in range(0, len(view), WRITE_BYTES):
        async with _in_time(call, transport):
            await response.write(view[start : start + WRITE_BYTES])


@asynccontextmanager
async def _in_time(call: AnyCall, transport: asyncio.Transport) -> AsyncIterator[None]:
    timeout_s = call.services.serving.write_timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        _discard_unsent(transport)
        raise ConnectionAbortedError(f"the client read too little for {timeout_s} s") from None


def _discard_unsent(transport: asyncio.Transport) -> None:
    """Makes closing reset the connection (SO_LINGER with 0 s; socket(7)). Otherwise the kernel
    keeps megabytes for minutes, for a client that does not read."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def accepts_gzip(request: web.Request) -> bool:
    """Returns whether the client accepts gzip (RFC 9110, 12.5.3). A coding with weight 0 is
    refused; a coding that is not named is not requested."""
    weights = {}
    for each in request.headers.get("Accept-Encoding", "").lower().split(","):
        coding, _, weight = each.partition(";")
        weights[coding.strip()] = weight.replace(" ", "")
    weight = weights.get("gzip", weights.get("x-gzip", weights.get("*", "q=0")))
    return _NO_WEIGHT.fullmatch(weight) is None

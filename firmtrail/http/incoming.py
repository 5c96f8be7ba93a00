"""Reads the bytes of a body: whole, inflated, in time, and within its limits.

A request that its head alone disqualifies is refused before its body is read. A client that waits
for `100 Continue` (RFC 9110, 10.1.1) gets it when its body is about to be read. By then the
endpoint knows the caller and has checked the head.
"""

import asyncio
import zlib

from aiohttp import HttpVersion11, hdrs, web

from firmtrail.http.errors import BadRequest, RequestTimeout, TooLarge, UnsupportedMediaType
from firmtrail.http.pace import Pace
from firmtrail.http.route import ARRAY_BODY_BYTES_MAX, SINGLE_BODY_BYTES_MAX
from firmtrail.http.validate import is_array

BODY_TIMEOUT_S = 10
MEMBERS_MAX = 10_000
"""Limits the members of one gzip body. Each costs some microseconds, even without bytes."""

CONTINUED = web.RequestKey("continued", bool)
"""Marks a request whose client was asked to send its body."""

_SLICE_BYTES = 16 * 1024
_GZIP = zlib.MAX_WBITS | 16
_CODINGS = {"identity": "identity", "gzip": "gzip", "x-gzip": "gzip"}
"""x-gzip is another name of gzip (RFC 9110, 8.4.1.3)."""


async def expected(request: web.Request) -> None:
    """Handles Expect for aiohttp before the endpoint: refuses unknown expectations only."""
    expectation = request.headers.get(hdrs.EXPECT, "").strip().lower()
    if request.version >= HttpVersion11 and expectation != "100-continue":
        raise web.HTTPExpectationFailed


async def let_continue(request: web.Request) -> None:
    """Sends `100 Continue` to a client that waits for it before it sends its body."""
    if hdrs.EXPECT in request.headers and request.version >= HttpVersion11:
        request[CONTINUED] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


def check_whole(request: web.Request) -> None:
    """Raises `BadRequest` for a body that is declared to be a part (RFC 9110, 14.5)."""
    if hdrs.CONTENT_RANGE in request.headers:
        raise BadRequest("Content-Range is not supported: send the whole body.")


def check_media_type(request: web.Request) -> None:
    """Raises `UnsupportedMediaType` for a body that is declared to be something other than JSON."""
    declared = request.headers.get(hdrs.CONTENT_TYPE)
    if declared is None or declared == "application/json":
        return
    if declared.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("The Content-Type must be application/json.")


async def read_bytes(
    request: web.Request, *, takes_arrays: bool, single_bytes_max: int = SINGLE_BODY_BYTES_MAX
) -> bytes:
    """Returns the body, inflated. Raises `TooLarge`, `UnsupportedMediaType` or `RequestTimeout`."""
    encoding = _encoding(request)
    bytes_max = ARRAY_BODY_BYTES_MAX if takes_arrays else single_bytes_max
    content = request.content
    if content.is_eof() and content.exception() is None:
        body = content.read_nowait()  # the whole body has arrived: no timer is needed
    else:
        body = await _read_slowly(request, bytes_max)
    if encoding == "gzip":
        body = await _inflated(body, bytes_max)
    if len(body) > single_bytes_max and (len(body) > bytes_max or not is_array(body)):
        which = "A body that is not an array" if takes_arrays else "A body"
        raise TooLarge(f"{which} has at most {single_bytes_max} bytes.")
    return body


def _encoding(request: web.Request) -> str:
    if hdrs.CONTENT_ENCODING not in request.headers:
        return "identity"
    named = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING))
    encoding = _CODINGS.get(named.strip().lower())
    if encoding is None:
        raise UnsupportedMediaType("The only supported Content-Encoding is gzip.")
    return encoding


async def _inflated(body: bytes, bytes_max: int) -> bytes:
    """Returns the content of a gzip body, with all its members joined (RFC 1952, 2.2). It inflates
    at most one byte more than the limit."""
    inflater, inflated = zlib.decompressobj(_GZIP), bytearray()
    members, pace = 1, Pace()
    for start in range(0, len(body), _SLICE_BYTES):
        left = body[start : start + _SLICE_BYTES]
        while left:
            if inflater.eof:
                inflater, members = zlib.decompressobj(_GZIP), members + 1
            inflated += _inflate(inflater, left, bytes_max + 1 - len(inflated))
            if len(inflated) > bytes_max or members > MEMBERS_MAX:
                raise TooLarge(
                    f"A body has at most {bytes_max} bytes, in at most {MEMBERS_MAX} gzip members."
                )
            left = inflater.unused_data
            if pace.is_due():
                await pace.pause()
    if not inflater.eof:
        raise BadRequest("The gzip data of the body is incomplete.")
    return bytes(inflated)


def _inflate(inflater: "zlib._Decompress", some: bytes, bytes_max: int) -> bytes:
    try:
        return inflater.decompress(some, bytes_max)
    except zlib.error:
        raise BadRequest("The body is not valid gzip.") from None


async def _read_slowly(request: web.Request, bytes_max: int) -> bytes:
    if (request.content_length or 0) > bytes_max:
        raise TooLarge(f"A body has at most {bytes_max} bytes.")
    await let_continue(request)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while len(body) <= bytes_max and (chunk := await request.content.readany()):
                body += chunk
    except TimeoutError:
        raise RequestTimeout("The body did not arrive in time.") from None
    return bytes(body)

"""Sends an answer whose body is known as a whole, in one step where its client asks for nothing
special.

aiohttp prepares each answer for all that may be asked of it: chunks, compression, cookies, other
versions of HTTP, a connection that ends. For a small answer, this takes longer than to send it.
"""

# Each property of an answer or a request costs a call.
# ruff: noqa: SLF001

from typing import TypeGuard

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import _serialize_headers

SENT_EASILY_BYTES = 32 * 1024
"""An answer of this size fits into the buffers of any connection whose client reads."""

_BODILESS = frozenset({204, 304})
"""Statuses without a body and a Content-Length (RFC 9110, 8.6)."""

type Finished = tuple[web.StreamResponse, bool]
"""An answer, and whether its connection has broken."""


def is_easy(answer: web.StreamResponse, request: web.BaseRequest) -> TypeGuard[web.Response]:
    """Returns whether the answer is small, the connection stays open, and only Content-Length and
    Date are missing from its head."""
    if type(answer) is not web.Response:
        return False
    asked, body, headers = request._message, answer._body, answer._headers
    return (
        answer._keep_alive is None
        and not asked.should_close
        and asked.version == HttpVersion11
        and asked.method != hdrs.METH_HEAD
        and not (answer._compression or answer._cookies or answer._chunked)
        and not answer.prepared
        and hdrs.SERVER in headers
        and (
            not body
            or (
                isinstance(body, bytes)
                and len(body) <= SENT_EASILY_BYTES
                and hdrs.CONTENT_TYPE in headers
                and answer._status not in _BODILESS
            )
        )
    )


async def send(answer: web.Response, request: web.BaseRequest) -> Finished:
    """Sends an easy answer."""
    headers, body, transport = answer._headers, answer._body or b"", request.transport
    assert isinstance(body, bytes), "an easy answer has no other body"
    if transport is None or transport.is_closing():
        return answer, True
    if answer.status not in _BODILESS:
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
    headers[hdrs.DATE] = rfc822_formatted_time()
    head = _serialize_headers(f"HTTP/1.1 {answer.status} {answer.reason}", headers)
    transport.write(head + body)
    answer._keep_alive = True
    return answer, False

"""Sends an answer whose body is known as a whole, in one step where its client asks for nothing
special.

aiohttp prepares each answer for all that may be asked of it: chunks, compression, cookies, other
versions of HTTP, a connection that ends. For a small answer, this takes longer than to send it.
"""

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_writer import _serialize_headers

SENT_EASILY_BYTES = 32 * 1024
"""An answer of this size fits into the buffers of any connection whose client reads."""

_BODILESS = frozenset({204, 304})
"""Statuses without a Content-Length (RFC 9110, 8.6)."""

type Finished = tuple[web.StreamResponse, bool]
"""An answer, and whether its connection has broken."""


class WholeAnswer(web.Response):
    """Holds an answer whose body is known as a whole."""

    def is_easy(self, request: web.BaseRequest) -> bool:
        """Returns whether the answer is small, and its head lacks only what every head has."""
        asked, body = request._message, self._body  # noqa: SLF001 (each property costs a call)
        return (
            self._keep_alive is None
            and not asked.should_close
            and asked.version == HttpVersion11
            and asked.method != hdrs.METH_HEAD
            and not (self._compression or self._cookies)
            and (body is None or (isinstance(body, bytes) and len(body) <= SENT_EASILY_BYTES))
        )

    async def send(self, request: web.BaseRequest) -> Finished:
        """Sends an easy answer."""
        headers, body, transport = self._headers, self._body or b"", request.transport
        assert isinstance(body, bytes), "an easy answer has no other body"
        if transport is None or transport.is_closing():
            return self, True
        if self._status not in _BODILESS:
            headers[hdrs.CONTENT_LENGTH] = str(len(body))
        headers[hdrs.DATE] = rfc822_formatted_time()
        head = _serialize_headers(f"HTTP/1.1 {self._status} {self._reason}", headers)
        transport.write(head + body)
        self._keep_alive = True
        return self, False

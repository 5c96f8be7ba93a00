"""Reads the W3C trace context of a request (Trace Context, 3.2), and says what takes a span of it.

A client or proxy that traces its requests names the trace in the header traceparent. The request's
log line carries its id, whether or not this server sends spans itself.
"""

import re
from typing import NamedTuple, Protocol

from aiohttp import web
from multidict import istr

_HEADER = istr("traceparent")
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class ServedRequest(NamedTuple):
    """Describes a request that was answered."""

    request: web.Request
    request_id: str
    route: str
    status: int
    seconds: float


class Traces(Protocol):
    """Takes a span of each request."""

    def record(self, served: ServedRequest) -> str:
        """Takes a span of a request that was just answered, and returns the id of its trace."""


def trace_id(request: web.Request) -> str | None:
    """Returns the id of the trace that a request belongs to; None: it names none, or no valid
    one."""
    values = request.headers.getall(_HEADER, ())
    match = _TRACEPARENT.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None

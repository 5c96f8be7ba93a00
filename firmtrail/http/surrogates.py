"""Replaces halves of surrogate pairs in JSON, which is valid with them but cannot be decoded.

A half (RFC 8259, 8.2) becomes NUL, which is valid too and can be decoded. NUL is a fault wherever
text is stored.
"""

import re

from firmtrail.http.pace import Pace

SURROGATES_MAX = 100_000
"""Limits the escaped surrogates that are examined in a body that contains half of a pair."""

NUL = b"\\u0000"

_SURROGATE = re.compile(rb"\\u[dD]")
_HALF = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


async def without_halves(body: bytes, pace: Pace) -> bytes:
    """Returns the body with each half replaced. A body with more than `SURROGATES_MAX` surrogates
    may keep halves, and is then malformed."""
    replaced, at = bytearray(body), 0
    for _ in range(SURROGATES_MAX):
        if (found := _SURROGATE.search(body, at)) is None:
            break
        start = found.start()
        if _is_escaped(body, start) or _HALF.match(body, start) is None:
            at = found.end()
        elif pair := _PAIR.match(body, start):
            at = pair.end()
        else:
            at = start + len(NUL)
            replaced[start:at] = NUL
        if pace.is_due():
            await pace.pause()
    return bytes(replaced)


def _is_escaped(body: bytes, at: int) -> bool:
    """Returns whether an odd number of backslashes precedes the index `at`."""
    width = 64
    while True:
        before = body[max(0, at - width) : at]
        run = len(before) - len(before.rstrip(b"\\"))
        if run < width:
            return run % 2 == 1
        width *= 2

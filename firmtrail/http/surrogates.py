"""Replaces halves of surrogate pairs in JSON, which is valid with them but cannot be decoded.

A half (RFC 8259, 8.2) becomes NUL, which is valid too and can be decoded. NUL is a fault wherever
text is stored. A client of another protocol reads no faults, so for it both become spaces.
"""

import re

from firmtrail.http.pace import Pace

SURROGATES_MAX = 100_000
"""Limits the escaped surrogates that are examined in a body that contains half of a pair."""

NUL, SPACE = b"\\u0000", b"\\u0020"

_SURROGATE = re.compile(rb"\\u[dD]")
_UNSTORABLE = re.compile(rb"\\u(?:[dD]|0000)")
_HALF = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


async def without_halves(body: bytes, pace: Pace) -> bytes:
    """Returns the body with each half replaced. A body with more than `SURROGATES_MAX` surrogates
    may keep halves, and is then malformed."""
    return await _replaced(body, pace, _SURROGATE, NUL)


async def storable(body: bytes, pace: Pace) -> bytes:
    """Returns the body with a space for each half and each NUL."""
    return await _replaced(body, pace, _UNSTORABLE, SPACE)


async def _replaced(body: bytes, pace: Pace, wanted: re.Pattern[bytes], instead: bytes) -> bytes:
    replaced, at = bytearray(body), 0
    for _ in range(SURROGATES_MAX):
        if (found := wanted.search(body, at)) is None:
            break
        start = found.start()
        is_nul = body.startswith(NUL, start)
        if _is_escaped(body, start) or not (is_nul or _HALF.match(body, start)):
            at = found.end()
        elif pair := _PAIR.match(body, start):
            at = pair.end()
        else:
            at = start + len(instead)
            replaced[start:at] = instead
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

"""Messages between a server and the process that writes for it: a pickle behind its length.

Both ends are this code, and nobody else can reach the socket between them.
"""

import pickle
import struct
from typing import Any

_LENGTH = struct.Struct(">Q")

HEADER = _LENGTH.size
"""Bytes before each message, which give its `length`."""


def message(content: object) -> tuple[bytes, bytes]:
    """The header and what follows it."""
    pickled = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(pickled)), pickled


def length(header: bytes) -> int:
    """Bytes of the content behind this header."""
    return int(_LENGTH.unpack(header)[0])


def content(pickled: bytes) -> Any:
    return pickle.loads(pickled)  # noqa: S301 (our own process made it)

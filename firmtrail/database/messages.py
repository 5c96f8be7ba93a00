"""Encodes messages between a server and the process that writes for it: a length, then a pickle.

Both ends run this code, and no other program can reach the socket between them.
"""

import pickle
import struct
from typing import Any

_LENGTH = struct.Struct(">Q")

HEADER_BYTES = _LENGTH.size
"""The size of the header before each message, which contains the length of the body."""


type Framed = tuple[bytes, bytes]
"""A header and a body."""


def encode(content: object) -> Framed:
    body = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)), body


def body_bytes(header: bytes) -> int:
    """Returns the length of the body after this header."""
    return int(_LENGTH.unpack(header)[0])


def decode(body: bytes) -> Any:
    return pickle.loads(body)  # noqa: S301 (a process of ours wrote it)

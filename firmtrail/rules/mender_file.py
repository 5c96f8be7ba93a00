"""Reads what a Mender artifact says about itself. Pure.

A Mender artifact is a tar file: `version`, `manifest`, `header.tar` (possibly compressed), and the
payload (Mender artifact format, versions 2 and 3). Its header names the artifact and the device
types that it fits; clients of Mender refuse a deployment that says otherwise. The bytes are hostile
input: only the first `HEAD_BYTES` are read, in a bounded number of steps, and a file that is
anything else has no such facts.
"""

import io
import lzma
import tarfile
import zlib
from typing import NamedTuple

import msgspec

HEAD_BYTES = 256 * 1024
"""Limits the bytes of a file that are searched; the header comes before the payload."""
HEADER_BYTES_MAX = 1024 * 1024
"""Limits the header after inflation."""
NAME_CHARACTERS_MAX = 256
DEVICE_TYPES_MAX = 64

_MEMBERS_MAX = 8
_LZMA_BYTES_MAX = 64 * 1024 * 1024


class MenderFacts(NamedTuple):
    """Holds what the header of a Mender artifact says."""

    provides_name: str
    device_types: tuple[str, ...]


class _Provides(msgspec.Struct):
    artifact_name: str | None = None


class _Depends(msgspec.Struct):
    device_type: list[str] = []


class _HeaderInfo(msgspec.Struct):
    """Describes header-info: version 3 has the first two members, version 2 the last two."""

    artifact_provides: _Provides = msgspec.field(default_factory=_Provides)
    artifact_depends: _Depends = msgspec.field(default_factory=_Depends)
    artifact_name: str | None = None
    device_types_compatible: list[str] = []


def read(head: bytes) -> MenderFacts | None:
    """Returns the facts of a file that begins with these bytes; None if it is no Mender artifact,
    or if its header cannot be read."""
    try:
        return _facts(_header_info(_header(head)))
    except (
        ArithmeticError,
        EOFError,
        LookupError,
        OSError,
        RecursionError,
        ValueError,
        tarfile.TarError,
        lzma.LZMAError,
        zlib.error,
    ):
        return None


def _header(head: bytes) -> bytes:
    """Returns the header's tar. Raises `LookupError` if the file is no Mender artifact."""
    with tarfile.open(fileobj=io.BytesIO(head), mode="r:") as outer:
        for n in range(_MEMBERS_MAX):
            member = outer.next()
            if member is None or (n == 0 and member.name != "version"):
                break
            name, _, coding = member.name.partition(".tar")
            if name == "header":
                found = head[member.offset_data : member.offset_data + max(0, member.size)]
                return _inflated(found, coding)
    raise LookupError("no header.tar")


def _inflated(data: bytes, coding: str) -> bytes:
    match coding:
        case "":
            return data[:HEADER_BYTES_MAX]
        case ".gz":
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, HEADER_BYTES_MAX)
        case ".xz":
            inflater = lzma.LZMADecompressor(memlimit=_LZMA_BYTES_MAX)
            return inflater.decompress(data, HEADER_BYTES_MAX)
    raise LookupError(f"the coding {coding} is unknown")


def _header_info(header: bytes) -> _HeaderInfo:
    with tarfile.open(fileobj=io.BytesIO(header), mode="r:") as inner:
        for _ in range(_MEMBERS_MAX):
            member = inner.next()
            if member is None:
                break
            if member.name == "header-info":
                text = header[member.offset_data : member.offset_data + max(0, member.size)]
                return msgspec.json.decode(text, type=_HeaderInfo)
    raise LookupError("no header-info")


def _facts(info: _HeaderInfo) -> MenderFacts | None:
    name = info.artifact_provides.artifact_name or info.artifact_name or ""
    types = (info.artifact_depends.device_type or info.device_types_compatible)[:DEVICE_TYPES_MAX]
    if not _is_fit(name):
        return None
    return MenderFacts(name, tuple(each for each in dict.fromkeys(types) if _is_fit(each)))


def _is_fit(text: str) -> bool:
    return 0 < len(text) <= NAME_CHARACTERS_MAX and text.isprintable()

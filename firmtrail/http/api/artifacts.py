"""Receives and sends artifacts as streams of bytes, whatever their size.

An upload is hashed as it arrives, and is added to its release only after it is stored durably. One
that is cut off, too large, or different from its digest leaves nothing. A download has its SHA-256
as strong ETag, so one that was cut off can be continued (RFC 9110, 14).
"""

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from itertools import chain
from typing import NamedTuple

from aiohttp import hdrs, web

from firmtrail.artifacts import Artifacts, Upload
from firmtrail.commands import releases as commands
from firmtrail.events.fleet import ArtifactAdded
from firmtrail.http import errors, incoming, respond
from firmtrail.http.api.releases import RELEASE, Artifact, key_of, releases_of
from firmtrail.http.api.rows import OPERATE, PUT, READ, D, command, read
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import DEVICE
from firmtrail.http.respond import BYTES
from firmtrail.projections import releases
from firmtrail.rules import release
from firmtrail.rules.device import Refused

UPLOAD_IDLE_S = 30
"""Limits the time without a byte of an upload."""

UPLOAD_S = 6 * 3600
"""Limits the time of a whole upload."""

UPLOADS_MAX = 16
"""Limits parallel uploads in one process; each takes some 15 MiB of memory."""

_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*([^,;]*)")

_RANGE = re.compile(r"(\d{0,100})-(\d{0,100})", re.ASCII)
"""A text with more digits is not a position, and is ignored; one after the end gets 416."""


async def put_artifact(call: AnyCall) -> web.Response:
    """Add a file to a release: its bytes, which never change afterwards.

    The same bytes sent again get the same answer.
    """
    store, name = _store(call), call.path("name")
    expected = _expected_digests(call.request)
    await _check_before(call, name)
    with call.services.uploads.enter(call.caller):
        await incoming.let_continue(call.request)
        async with store.received(_chunks(call)) as upload:
            if any(digest != upload.sha256 for digest in expected):
                raise errors.Invalid(
                    "The bytes do not match the digest in the request.", code="digest_mismatch"
                )
            is_new = await _keep(call, store, upload, name)
    shown = Artifact(name, upload.size_bytes, upload.sha256)
    return respond.json(201 if is_new else 200, shown)


async def _keep(call: AnyCall, store: Artifacts, upload: Upload, name: str) -> bool:
    """Makes the bytes durable, then records them; returns whether the release lacked them."""
    if upload.size_bytes == 0:
        raise errors.Invalid("The artifact is empty; send at least one byte.")
    key, wanted = key_of(call), ArtifactAdded(name, upload.size_bytes, upload.sha256)
    release.decide_artifact(await releases_of(call), key, wanted)
    await store.keep(upload)
    add = commands.add_artifact(key, wanted, actor=call.caller.actor)
    return await call.services.recorder.act(call.log_id, add)


async def _check_before(call: AnyCall, name: str) -> None:
    """Refuses, before the bytes arrive, an upload that would be refused after them."""
    if call.request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("Send the artifact without Content-Encoding.")
    if call.request.content_type.startswith("multipart/"):
        raise errors.UnsupportedMediaType(
            "Send the artifact itself as the body, without a multipart form around it."
        )
    if (call.request.content_length or 0) > call.services.artifact_bytes_max:
        raise _too_large(call)
    key = key_of(call)
    found = release.existing(await releases_of(call), key)
    if not name:
        raise errors.NotFound("The artifact's name is not 1 to 64 letters, digits and ._-.")
    if found.is_withdrawn and found.artifact(name) is None:
        raise release.withdrawn(key)


def _too_large(call: AnyCall) -> errors.TooLarge:
    return errors.TooLarge(f"An artifact has at most {call.services.artifact_bytes_max} bytes.")


async def _chunks(call: AnyCall) -> AsyncIterator[bytes]:
    """Yields the body as it arrives. Raises the problem that ends it early."""
    size_bytes, limit = 0, _TimeLimit(call.services.write_timeout_s)
    try:
        while chunk := await _chunk(call.request, limit.due_at()):
            size_bytes += len(chunk)
            limit.arrived(len(chunk))
            if size_bytes > call.services.artifact_bytes_max:
                raise _too_large(call)
            yield chunk
    except TimeoutError:
        raise errors.RequestTimeout("The body did not arrive in time.") from None
    except (web.RequestPayloadError, ConnectionError):
        raise errors.BadRequest("The connection broke before the body was complete.") from None


class _TimeLimit:
    """Limits the time of an upload: `WRITE_BYTES` have to arrive in each span of seconds."""

    def __init__(self, span_s: float) -> None:
        self._now = asyncio.get_running_loop().time
        self._span_s = span_s
        self._ends_at = self._now() + UPLOAD_S
        self._begin_span()

    def _begin_span(self) -> None:
        self._span_bytes = 0
        self._span_ends_at = self._now() + self._span_s

    def arrived(self, count: int) -> None:
        self._span_bytes += count
        if self._span_bytes >= respond.WRITE_BYTES:
            self._begin_span()

    def due_at(self) -> float:
        """Returns the time at which the next bytes have to be here."""
        return min(self._ends_at, self._span_ends_at, self._now() + UPLOAD_IDLE_S)


async def _chunk(request: web.Request, due_at: float) -> bytes:
    """Returns the next bytes. Each has its own time limit, because the store may read each in
    another task."""
    async with asyncio.timeout_at(due_at):
        return await request.content.readany()


def _expected_digests(request: web.Request) -> list[str]:
    """Returns the SHA-256 values in hex that the client names (RFC 9530); other algorithms are
    ignored."""
    headers = (request.headers.getall(name, []) for name in ("Repr-Digest", "Content-Digest"))
    return [_hex(found) for header in chain(*headers) for found in _DIGEST.findall(header)]


def _hex(text: str) -> str:
    """Returns the bytes of a structured field's byte sequence, ":BASE64:", in hex."""
    try:
        digest = b64decode(text.strip().removeprefix(":").removesuffix(":"), validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise errors.BadRequest("The digest sha-256 has to be 32 bytes in base64 between colons.")
    return digest.hex()


async def get_artifact(call: AnyCall) -> web.StreamResponse:
    """Return the bytes of an artifact, also of a withdrawn release."""
    found = (await releases_of(call)).get(key_of(call))
    artifact = found and found.artifact(call.path("name"))
    if not artifact:
        raise errors.NotFound("There is no such artifact.")
    return await send(call, artifact)


async def get_offered_artifact(call: AnyCall) -> web.StreamResponse:
    """Return the bytes of an artifact of a release that the device was offered at any time."""
    device, digest = call.path("device"), call.path("sha256")
    found = await releases.offered(call.services.db, call.log_id, device, digest)
    if found is None:
        raise errors.NotFound("This device was never offered such an artifact.")
    if found.is_withdrawn:
        raise errors.Gone("The release of this artifact is withdrawn.", code="withdrawn")
    return await send(call, found.artifact)


class _Span(NamedTuple):
    """Holds the range of positions start <= n < stop."""

    start: int
    stop: int


async def send(call: AnyCall, artifact: release.ReleaseArtifact) -> web.StreamResponse:
    """Sends the bytes, or the range of them that the request asks for."""
    headers = {
        "ETag": f'"{artifact.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{artifact.name}"',
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(artifact.sha256)).decode()}:",
    }
    if "If-Match" in call.request.headers and not respond.matches_strongly(
        call.request.if_match, artifact.sha256
    ):
        raise errors.Stale("If-Match names other bytes than the artifact's.")
    if respond.client_has(call.request, artifact.sha256):
        return web.Response(status=304, headers=headers)
    part = _span(call.request, artifact)
    span = part or _Span(0, artifact.size_bytes)
    headers["Content-Length"] = str(span.stop - span.start)
    if part is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{artifact.size_bytes}"
    chunks = _store(call).read(artifact.sha256, *span)
    return await respond.stream(
        call, respond.BYTES, chunks, headers, status=206 if part is not None else 200
    )


def _span(request: web.Request, artifact: release.ReleaseArtifact) -> _Span | None:
    """Returns the one range that the request asks for.

    None stands for all bytes: no range or several are asked for, or the client has a part of other
    bytes (If-Range). Only a GET takes a range. Raises `RangeNotSatisfiable`.
    """
    if request.method != "GET" or hdrs.RANGE not in request.headers:
        return None
    if request.headers.get(hdrs.IF_RANGE, f'"{artifact.sha256}"') != f'"{artifact.sha256}"':
        return None
    named = _one_range(",".join(request.headers.getall(hdrs.RANGE)))
    size_bytes = artifact.size_bytes
    match named and named.groups():
        case None | ("", ""):
            return None
        case ("", suffix):
            span = _Span(max(0, size_bytes - int(suffix)), size_bytes)
        case (first, ""):
            span = _Span(int(first), size_bytes)
        case (first, last):
            if int(last) < int(first):
                return None
            span = _Span(int(first), min(int(last) + 1, size_bytes))
    if span.start >= span.stop:
        raise errors.RangeNotSatisfiable(size_bytes)
    return span


def _one_range(header: str) -> re.Match[str] | None:
    """Returns the range of a header that names bytes and one range of them (RFC 9110, 14.1 and
    14.2): the unit in any case, and empty elements of the list are ignored."""
    unit, _, ranges = header.strip().partition("=")
    named = [each.strip(" \t") for each in ranges.split(",") if each.strip(" \t")]
    if unit.lower() != "bytes" or len(named) != 1:
        return None
    return _RANGE.fullmatch(named[0])


def _store(call: AnyCall) -> Artifacts:
    store = call.services.artifacts
    if store is None:
        raise Refused("no_artifact_store", "This server was started without a place for artifacts.")
    return store


_BYTES = {200: BYTES, 206: BYTES, 304: None}
_BYTES_HEADERS = ("Accept-Ranges", "Repr-Digest")

ROUTES = (
    command(
        PUT,
        f"{RELEASE}/artifacts/{{name}}",
        put_artifact,
        OPERATE,
        takes_bytes=True,
        answers={201: Artifact, 200: Artifact},
    ),
    read(
        f"{RELEASE}/artifacts/{{name}}",
        get_artifact,
        READ,
        _BYTES,
        refusals={409, 412, 416},
        sends=_BYTES_HEADERS,
    ),
    read(
        f"{D}/artifacts/{{sha256}}",
        get_offered_artifact,
        DEVICE,
        _BYTES,
        refusals={409, 410, 412, 416},
        sends=_BYTES_HEADERS,
    ),
)

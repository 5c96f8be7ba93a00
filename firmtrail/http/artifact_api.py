"""Takes and sends artifacts: as bytes, streamed, whatever their size.

What arrives is hashed on its way and added to its release only once it is stored durably; an
upload that is cut, too large, or not what its digest says leaves nothing. What goes out has its
SHA-256 as strong ETag, so a download that was cut can be continued (RFC 9110, 14).
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
from firmtrail.http import answers, errors, incoming, release_api, respond
from firmtrail.http.call import AnyCall
from firmtrail.projections import releases
from firmtrail.rules import release
from firmtrail.rules.device import Refused
from firmtrail.rules.release import Artifact

UPLOAD_IDLE_S = 30
UPLOAD_S = 6 * 3600
UPLOADS_AT_ONCE = 16
"""In one process; each holds some 15 MiB."""

_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*([^,;]*)")
_RANGE = re.compile(r"(\d{0,100})-(\d{0,100})", re.ASCII)
"""Text with more digits is no position at all, and not only one after the end."""


async def put_artifact(call: AnyCall) -> web.Response:
    """Add a file to a release; the same bytes again are the same answer."""
    store, name = _store(call), call.path("name")
    expected = _expected_digests(call.request)
    await _check_before(call, name)
    with call.services.uploads.enter(call.caller):
        await incoming.let_continue(call.request)
        async with store.received(_chunks(call)) as upload:
            if any(digest != upload.sha256 for digest in expected):
                raise errors.Invalid(
                    "The bytes are not what their digest says.", code="digest_mismatch"
                )
            is_new = await _keep(call, store, upload, name)
    shown = answers.Artifact(name, upload.size_bytes, upload.sha256)
    return respond.json(201 if is_new else 200, shown)


async def _keep(call: AnyCall, store: Artifacts, upload: Upload, name: str) -> bool:
    """Makes the bytes durable, then records them; returns whether the release lacked them."""
    if upload.size_bytes == 0:
        raise errors.Invalid("An artifact has at least one byte.")
    key, wanted = release_api.key_of(call), ArtifactAdded(name, upload.size_bytes, upload.sha256)
    release.decide_artifact(await release_api.state(call), key, wanted)
    await store.keep(upload)
    add = commands.add_artifact(key, wanted, actor=call.caller.actor)
    return await call.services.recorder.act(call.log_id, add)


async def _check_before(call: AnyCall, name: str) -> None:
    """Refuse what would be refused anyway, before the bytes come."""
    if call.request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("Artifacts come without Content-Encoding.")
    if call.request.content_type.startswith("multipart/"):
        raise errors.UnsupportedMediaType(
            "The body has to be the artifact itself, without a multipart form around it."
        )
    if (call.request.content_length or 0) > call.services.artifact_bytes_max:
        raise _too_large(call)
    key = release_api.key_of(call)
    found = release.existing(await release_api.state(call), key)
    if not name:
        raise errors.NotFound("This is no name of an artifact.")
    if found.is_withdrawn and found.artifact(name) is None:
        raise release.withdrawn(key)


def _too_large(call: AnyCall) -> errors.TooLarge:
    return errors.TooLarge(f"An artifact has at most {call.services.artifact_bytes_max} bytes.")


async def _chunks(call: AnyCall) -> AsyncIterator[bytes]:
    """The body as it comes. Raises the problem that ends it before its end."""
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
        raise errors.BadRequest("The body broke off.") from None


class _TimeLimit:
    """The time that an upload may take: `WRITE_BYTES` have to arrive in each span of seconds."""

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
        """Until when the next bytes have to come."""
        return min(self._ends_at, self._span_ends_at, self._now() + UPLOAD_IDLE_S)


async def _chunk(request: web.Request, due_at: float) -> bytes:
    """A time limit of its own for each: the store may ask for each in another task."""
    async with asyncio.timeout_at(due_at):
        return await request.content.readany()


def _expected_digests(request: web.Request) -> list[str]:
    """The SHA-256 that the client says the bytes have, in hex (RFC 9530); of other algorithms
    nothing is looked at."""
    said = (request.headers.getall(name, []) for name in ("Repr-Digest", "Content-Digest"))
    return [_hex(found) for header in chain(*said) for found in _DIGEST.findall(header)]


def _hex(text: str) -> str:
    """Of a structured field's byte sequence, ":BASE64:"."""
    try:
        digest = b64decode(text.strip().removeprefix(":").removesuffix(":"), validate=True)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise errors.BadRequest("sha-256 is 32 bytes in base64, between colons.")
    return digest.hex()


async def get_artifact(call: AnyCall) -> web.StreamResponse:
    """The bytes of an artifact, for users; those of a withdrawn release too."""
    found = (await release_api.state(call)).get(release_api.key_of(call))
    artifact = found and found.artifact(call.path("name"))
    if not artifact:
        raise errors.NotFound("There is no such artifact.")
    return await send(call, artifact)


async def get_offered_artifact(call: AnyCall) -> web.StreamResponse:
    """The bytes of an artifact, for a device that was offered its release at any time."""
    device, digest = call.path("device"), call.path("sha256")
    found = await releases.offered(call.services.db, call.log_id, device, digest)
    if found is None:
        raise errors.NotFound("This device was offered no such artifact.")
    if found.is_withdrawn:
        raise errors.Gone("The release of this artifact is withdrawn.", code="withdrawn")
    return await send(call, found.artifact)


class _Span(NamedTuple):
    """Positions start <= n < stop."""

    start: int
    stop: int


async def send(call: AnyCall, artifact: Artifact) -> web.StreamResponse:
    """The bytes, or the range of them that the request asks for."""
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
        raise errors.Stale("The artifact is not the one that If-Match names.")
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


def _span(request: web.Request, artifact: Artifact) -> _Span | None:
    """The one range asked for; None, and so all, where there is none, or several, or the request
    has a part of other bytes. Only a GET takes a range. Raises `RangeNotSatisfiable`."""
    if request.method != "GET" or hdrs.RANGE not in request.headers:
        return None
    if request.headers.get(hdrs.IF_RANGE, f'"{artifact.sha256}"') != f'"{artifact.sha256}"':
        return None
    asked = _one_range(",".join(request.headers.getall(hdrs.RANGE)))
    size_bytes = artifact.size_bytes
    match asked and asked.groups():
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
    """The range of a header that names bytes and one range of them (RFC 9110, 14.1 and 14.2): the
    unit in any case, and empty elements of the list do not count."""
    unit, _, ranges = header.strip().partition("=")
    named = [each.strip(" \t") for each in ranges.split(",") if each.strip(" \t")]
    if unit.lower() != "bytes" or len(named) != 1:
        return None
    return _RANGE.fullmatch(named[0])


def _store(call: AnyCall) -> Artifacts:
    store = call.services.artifacts
    if store is None:
        raise Refused("no_artifact_store", "This server has no place for artifacts.")
    return store

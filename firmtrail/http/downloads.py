"""Sends an artifact, or the range of its bytes that a request asks for.

A download has its SHA-256 as strong ETag, so one that was cut off can be continued (RFC 9110, 14).
"""

import asyncio
import contextlib
import re
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from aiohttp import hdrs, web
from msgspec.structs import replace

from firmtrail.artifacts import Artifacts
from firmtrail.database.database import Unavailable
from firmtrail.http import errors, respond
from firmtrail.http.call import AnyCall
from firmtrail.projections import releases
from firmtrail.rules import release
from firmtrail.rules.device import Refused

PATIENCE_S = 20
"""Limits how long a granted download waits for a database or a store that does not answer."""
TRY_EVERY_S = 0.5
DIGESTS_S = 2
"""Limits how long an answer waits for digests that no one has needed before."""

_RANGE = re.compile(r"(\d{0,100})-(\d{0,100})", re.ASCII)
"""A text with more digits is not a position, and is ignored; one after the end gets 416."""


def store_of(call: AnyCall) -> Artifacts:
    """Returns the store of artifacts. Raises `Refused` if this server has none."""
    store = call.services.artifacts
    if store is None:
        raise Refused("no_artifact_store", "This server was started without a place for artifacts.")
    return store


class _Span(NamedTuple):
    """Holds the range of positions start <= n < stop."""

    start: int
    stop: int


async def offered(call: AnyCall, device: str, digest: str) -> release.ReleaseArtifact:
    """Returns an artifact that the device was offered at any time. Raises `NotFound` if it never
    was, and `Gone` if the release is withdrawn."""
    found = await releases.offered(call.services.db, call.log_id, device, digest)
    if found is None:
        raise errors.NotFound("This device was never offered such an artifact.")
    if found.is_withdrawn:
        raise errors.Gone("The release of this artifact is withdrawn.", code="withdrawn")
    return found.artifact


async def with_digests(call: AnyCall, artifact: release.ReleaseArtifact) -> release.ReleaseArtifact:
    """Returns the artifact with its SHA-1 and MD5, as `all_with_digests` does."""
    [found] = await all_with_digests(call, (artifact,))
    return found


async def all_with_digests(
    call: AnyCall, artifacts: Sequence[release.ReleaseArtifact]
) -> Sequence[release.ReleaseArtifact]:
    """Returns the artifacts with their SHA-1 and MD5. One that was recorded without them has them
    from the store, which computes them when they are first needed. Those that take longer than
    `DIGESTS_S` in all stay None; a later answer has them."""
    store = call.services.artifacts
    if store is None or all(each.sha1 is not None for each in artifacts):
        return artifacts
    found = list(artifacts)
    with contextlib.suppress(TimeoutError, Unavailable):
        async with asyncio.timeout(DIGESTS_S):
            for n, each in enumerate(found):
                if each.sha1 is None:
                    digests = await store.digests(each.sha256, each.size_bytes)
                    found[n] = replace(each, sha1=digests.sha1, md5=digests.md5)
    return found


async def patiently(
    call: AnyCall, work: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Returns the answer of a download. While the service is unavailable, it is tried again for
    `PATIENCE_S`, unless the answer has begun."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await work()
        except Unavailable:
            if errors.STREAM in call.request or time.monotonic() >= until:
                raise
        await asyncio.sleep(TRY_EVERY_S)


async def send(
    call: AnyCall,
    artifact: release.ReleaseArtifact,
    name: str | None = None,
    *,
    more: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Sends the bytes, or the range of them that the request asks for, with `more` headers; `name`
    is that of the file, if the client knows it by another one."""
    headers = {**(more or {}), **_headers(artifact, name or artifact.name)}
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
    chunks = store_of(call).read(artifact.sha256, *span)
    return await respond.stream(
        call, respond.BYTES, chunks, headers, status=206 if part is not None else 200
    )


def _headers(artifact: release.ReleaseArtifact, name: str) -> dict[str, str]:
    return {
        "ETag": f'"{artifact.sha256}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{name}"',
        "Repr-Digest": f"sha-256=:{b64encode(bytes.fromhex(artifact.sha256)).decode()}:",
    }


def _span(request: web.Request, artifact: release.ReleaseArtifact) -> _Span | None:
    """Returns the one range that the request asks for.

    None stands for all bytes: no range or several are asked for, or the client has a part of other
    bytes (If-Range). Only a GET takes a range. Raises `RangeNotSatisfiable`.
    """
    if request.method != "GET" or hdrs.RANGE not in request.headers:
        return None
    if request.headers.get(hdrs.IF_RANGE, f'"{artifact.sha256}"') != f'"{artifact.sha256}"':
        return None
    match_ = _one_range(",".join(request.headers.getall(hdrs.RANGE)))
    size_bytes = artifact.size_bytes
    match match_ and match_.groups():
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

"""Receives artifacts (`uploads`), and sends them (`downloads`), as streams of bytes, whatever their
size.
"""

import re
from base64 import b64decode
from itertools import chain

from aiohttp import hdrs, web

from firmtrail.http import downloads, errors, respond, uploads
from firmtrail.http.api.releases import RELEASE, Artifact, key_of, releases_of, shown
from firmtrail.http.api.rows import OPERATE, PUT, READ, D, command, read
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import DEVICE
from firmtrail.http.downloads import store_of
from firmtrail.http.respond import BYTES
from firmtrail.rules import release

_DIGEST = re.compile(r"(?:^|,)\s*sha-256\s*=\s*([^,;]*)")


async def put_artifact(call: AnyCall) -> web.Response:
    """Add a file to a release: its bytes, which never change afterwards.

    The same bytes sent again get the same answer.
    """
    name, expected = call.path("name"), _expected_digests(call.request)
    store_of(call)
    await _check_before(call, name)
    async with uploads.received(call) as upload:
        if any(digest != upload.sha256 for digest in expected):
            raise errors.Invalid(
                "The bytes do not match the digest in the request.", code="digest_mismatch"
            )
        is_new = await uploads.add(call, key_of(call), name, upload)
    found = release.artifact_of(uploads.added(name, upload))
    return respond.json(201 if is_new else 200, shown(found))


async def _check_before(call: AnyCall, name: str) -> None:
    """Refuses, before the bytes arrive, an upload that would be refused after them."""
    if call.request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise errors.UnsupportedMediaType("Send the artifact without Content-Encoding.")
    if call.request.content_type.startswith("multipart/"):
        raise errors.UnsupportedMediaType(
            "Send the artifact itself as the body, without a multipart form around it."
        )
    if (call.request.content_length or 0) > call.services.serving.artifact_bytes_max:
        raise uploads.too_large(call)
    key = key_of(call)
    found = release.existing(await releases_of(call), key)
    if not name:
        raise errors.NotFound("The artifact's name is not 1 to 64 letters, digits and ._-.")
    if found.is_withdrawn and found.artifact(name) is None:
        raise release.withdrawn(key)


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
    return await downloads.send(call, artifact)


async def get_offered_artifact(call: AnyCall) -> web.StreamResponse:
    """Return the bytes of an artifact of a release that the device was offered at any time."""
    device, digest = call.path("device"), call.path("sha256")
    return await downloads.send(call, await downloads.offered(call, device, digest))


BYTES_ANSWERS = {200: BYTES, 206: BYTES, 304: None}
BYTES_HEADERS = ("Accept-Ranges", "Repr-Digest")

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
        BYTES_ANSWERS,
        refusals={409, 412, 416},
        sends=BYTES_HEADERS,
    ),
    read(
        f"{D}/artifacts/{{sha256}}",
        get_offered_artifact,
        DEVICE,
        BYTES_ANSWERS,
        refusals={409, 410, 412, 416},
        sends=BYTES_HEADERS,
    ),
)

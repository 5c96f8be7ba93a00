"""Makes and checks URLs that need no credential: the URL itself grants the download.

A URL is bound to a project, a device, the bytes of an artifact, its file name, and an expiry, by a
keyed checksum over all of them; the key is shared by all servers of the database. It is valid for
24 hours at least. It is the same for everyone who asks within `RENEWED_S`, so the answer to a
check-in, and its ETag, change only when the URL has to be renewed.
"""

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

import msgspec

from firmtrail.access.keys import DOWNLOADS
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import CodedForbidden
from firmtrail.rules.release import ReleaseArtifact

VALID_S = 24 * 3600
"""A URL is valid for at least this long after it was shown."""
RENEWED_S = 6 * 3600
"""URLs shown within one span of this length expire together, `VALID_S` after its end."""
PATH = "/dl/{project}/{device}/{sha256}/{name}"

_DOWNLOAD = "download"
_SIGNATURE_BYTES = 16


class Grant(NamedTuple):
    """Names the download that a URL grants."""

    project: str
    device: str
    sha256: str
    name: str


class SignatureQuery(msgspec.Struct, frozen=True):
    """Takes the expiry and the signature of a URL."""

    e: str | None = None
    s: str | None = None


async def download_url(call: AnyCall, device: str, artifact: ReleaseArtifact) -> str:
    """Returns the absolute URL at which the device of the call's project gets the artifact."""
    grant = Grant(call.project, device, artifact.sha256, artifact.name)
    now_s = call.services.access.now_ms() // 1000
    expiry = str((now_s // RENEWED_S + 1) * RENEWED_S + VALID_S)
    signed = await signature(call, (_DOWNLOAD, *grant), expiry)
    base = call.services.clients.url(call.request)
    return f"{base}{PATH.format(**grant._asdict())}?e={expiry}&s={signed}"


async def granted(call: AnyCall) -> Grant:
    """Returns the download that the request's URL grants. Raises `Forbidden` if the URL was altered
    or has expired; a text in the path is known to be ours only afterwards."""
    names = call.request.match_info
    grant = Grant(*(names[each] for each in Grant._fields))
    query = call.request.query
    is_valid = await is_signed(call, (_DOWNLOAD, *grant), query.get("e", ""), query.get("s", ""))
    if not is_valid or len(query) != 2:
        raise CodedForbidden(
            "This URL was altered or has expired: check in again to get a new one.",
            code="bad_download_url",
        )
    return grant


async def is_signed(call: AnyCall, names: Sequence[str], expiry: str, signed: str) -> bool:
    """Returns whether a URL with these names, expiry and signature is ours and has not expired."""
    expected = (await signature(call, names, expiry)).encode()
    if not compare_digest(signed.encode("utf-8", "surrogatepass"), expected):
        return False
    return int(expiry) * 1000 > call.services.access.now_ms()


async def signature(call: AnyCall, names: Sequence[str], expiry: str) -> str:
    """Returns the signature of a URL; the first of `names` says what the URL grants, and none
    contains a line break in a URL of ours."""
    key = await call.services.keys.get(DOWNLOADS)
    signed = "\n".join((*names, expiry)).encode("utf-8", "surrogatepass")
    digest = blake2b(signed, key=key, digest_size=_SIGNATURE_BYTES).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")

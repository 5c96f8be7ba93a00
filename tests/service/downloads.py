"""Uploads an artifact and pins a device to it."""

from hashlib import md5, sha1, sha256

from tests.service.site import D, P, Site
from tests.serving import Answer

BYTES = bytes(range(256)) * 40
SHA256, SHA1, MD5 = (of(BYTES).hexdigest() for of in (sha256, sha1, md5))


async def put(site: Site, data: bytes = BYTES, name: str = "full.bin") -> Answer:
    path = f"{P}/releases/m/1.1.0/artifacts/{name}"
    return await site.call("PUT", path, caller="operator", data=data)


async def pin(site: Site, version: str | None = "1.1.0") -> None:
    assert (await site.call("PATCH", D, caller="operator", json={"pinned": version})).status == 200

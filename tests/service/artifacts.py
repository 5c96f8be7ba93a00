"""Uploads artifacts for tests."""

from hashlib import sha256

import pytest

from tests.service.site import P, Site
from tests.serving import Answer

RELEASES = f"{P}/releases"
FILE = f"{RELEASES}/m/1.0.0/artifacts/full.bin"
BYTES = bytes(range(256)) * 40
DIGEST = sha256(BYTES).hexdigest()
ETAG = f'"{DIGEST}"'


@pytest.fixture(autouse=True)
async def release(site: Site) -> None:
    body = {"version": "1.0.0", "model": "m"}
    assert (await site.call("POST", RELEASES, caller="operator", json=body)).status == 201


async def put(site: Site, data: bytes = BYTES, path: str = FILE, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.call("PUT", path, caller="operator", data=data, headers=named)

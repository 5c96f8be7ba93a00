"""Tests hawkBit's protocol for devices: descriptions of files, downloads, checksums."""

from collections.abc import Awaitable, Callable
from hashlib import md5, sha1, sha256
from typing import Any

import pytest
from aiohttp import ClientConnectionError
from msgspec.structs import replace

from firmtrail.access.hashing import TooManyAttempts
from firmtrail.database.database import Unavailable
from firmtrail.http import actions, downloads
from firmtrail.http.call import AnyCall
from firmtrail.rules.release import ReleaseArtifact
from tests.service.ddi import Ddi
from tests.service.steered import roll_out


async def test_a_file_is_described_and_loaded_in_parts(ddi: Ddi) -> None:
    await roll_out(ddi.site)
    content = b"app.swu of 1.1.0" * 100
    described = (await ddi.deployment())["deployment"]
    assert (described["download"], described["update"]) == ("forced", "forced")
    [chunk] = described["chunks"]
    assert (chunk["part"], chunk["version"]) == ("os", "1.1.0")
    [file] = chunk["artifacts"]
    assert file["filename"] == "app.swu" and file["size"] == len(content)
    assert file["hashes"] == {
        "sha1": sha1(content, usedforsecurity=False).hexdigest(),
        "md5": md5(content, usedforsecurity=False).hexdigest(),
        "sha256": sha256(content).hexdigest(),
    }
    href = file["_links"]["download"]["href"]
    head = await ddi.call("HEAD", href)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(content)))
    assert (await ddi.call("GET", href)).body == content
    part = await ddi.call("GET", href, Range="bytes=1000-")
    assert (part.status, part.body) == (206, content[1000:])
    summed = await ddi.call("GET", file["_links"]["md5sum"]["href"])
    assert summed.body.decode() == f"{file['hashes']['md5']}  app.swu\n"
    listed = await ddi.call("GET", "/softwaremodules/1/artifacts")
    assert listed.json == [file]
    assert (await ddi.call("GET", "/softwaremodules/1/artifacts/other")).status == 404
    assert (await ddi.call("GET", "/softwaremodules/2/artifacts/app.swu")).status == 404


@pytest.mark.parametrize("suffix", ["", ".MD5SUM"])
async def test_a_download_never_gets_a_status_that_asks_to_try_again(
    ddi: Ddi, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Clients count it as a failed update; they continue a download whose connection breaks."""
    await roll_out(ddi.site)
    await ddi.deployment()
    path, access = f"/softwaremodules/1/artifacts/app.swu{suffix}", ddi.site.services.access
    find = access.find
    for error in (Unavailable("away", 1), TooManyAttempts()):
        monkeypatch.setattr(access, "find", failing(error))
        with pytest.raises(ClientConnectionError):
            await ddi.call("GET", path)
        assert (await ddi.call("GET")).status in {429, 503}
        monkeypatch.setattr(access, "find", find)
        assert (await ddi.call("GET", path)).status == 200


async def test_a_checksum_waits_for_the_database_and_for_its_computation(
    ddi: Ddi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await roll_out(ddi.site)
    await ddi.deployment()
    path, find = "/softwaremodules/1/artifacts/app.swu.MD5SUM", actions.find
    expected = await ddi.call("GET", path)
    errors = [Unavailable("away", 1)] * 2

    async def away_at_first(*args: Any) -> Any:
        if errors:
            raise errors.pop()
        return await find(*args)

    monkeypatch.setattr(actions, "find", away_at_first)
    assert (await ddi.call("GET", path)).body == expected.body
    computed, missing = downloads.with_digests, [{"sha1": None, "md5": None}] * 2

    async def late(call: AnyCall, artifact: ReleaseArtifact) -> ReleaseArtifact:
        found = await computed(call, artifact)
        return replace(found, **missing.pop()) if missing else found

    monkeypatch.setattr(downloads, "with_digests", late)
    answer = await ddi.call("GET", path)
    assert (answer.status, answer.body) == (200, expected.body)
    assert not errors and not missing


def failing(error: Exception) -> Callable[..., Awaitable[None]]:
    async def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail

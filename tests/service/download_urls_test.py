"""Checks artifacts for clients of any protocol: further digests, and URLs without a credential."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientConnectionError

from firmtrail.database.database import Database, Unavailable
from firmtrail.events.fleet import ArtifactAdded
from firmtrail.http import download_urls, downloads
from firmtrail.projections import fold
from tests.core.mender_files import artifact
from tests.fleet import record_events
from tests.service.downloads import BYTES, MD5, SHA1, SHA256, pin, put
from tests.service.preparing import prepare, revisions
from tests.service.site import D, P, Site
from tests.service.steered import post
from tests.serving import Answer


async def check_in(site: Site, **headers: str) -> Answer:
    return await site.get(f"{D}/update", "device", **headers)


@pytest.fixture
async def offered(fleet: Site) -> Site:
    """d1 is offered 1.1.0, which has one artifact."""
    assert (await put(fleet)).status == 201
    await pin(fleet)
    return fleet


async def url_of(site: Site) -> str:
    """Returns the path and the query of the URL that the check-in of d1 names."""
    url: str = (await check_in(site)).json["artifacts"][0]["download_url"]
    base = str(site.client.make_url("/"))
    assert url.startswith(f"{base}dl/acme/d1/{SHA256}/full.bin?")
    return f"/{url.removeprefix(base)}"


async def test_an_artifact_has_the_digests_that_clients_of_other_protocols_check(
    offered: Site,
) -> None:
    expected = {"name": "full.bin", "size": len(BYTES), "sha256": SHA256, "sha1": SHA1, "md5": MD5}
    shown = [(await put(offered)).json]
    shown += (await offered.get(f"{P}/releases/m/1.1.0")).json["artifacts"]
    shown += (await offered.get(f"{P}/releases?model=m")).json["items"][1]["artifacts"]
    shown += (await check_in(offered)).json["artifacts"]
    assert [{name: each[name] for name in expected} for each in shown] == [expected] * 4


async def test_digests_of_an_artifact_recorded_without_them_come_from_the_store(
    fleet: Site,
) -> None:
    store = fleet.services.artifacts
    assert store is not None

    async def chunks() -> Any:
        yield BYTES

    async with store.received(chunks()) as upload:
        await store.keep(upload)
    event = ArtifactAdded("old.bin", len(BYTES), SHA256)
    await record_events(fleet.services.recorder, fleet.log_id, [("release/m/1.1.0", event)])
    for _ in range(2):
        [shown] = (await fleet.get(f"{P}/releases/m/1.1.0")).json["artifacts"]
        assert (shown["sha1"], shown["md5"]) == (SHA1, MD5)
    await pin(fleet)
    [shown] = (await check_in(fleet)).json["artifacts"]
    assert (shown["sha1"], shown["md5"]) == (SHA1, MD5)


async def test_a_mender_artifact_is_recorded_with_what_its_header_says(fleet: Site) -> None:
    shown = (await put(fleet, artifact(), "fw.mender")).json
    assert (shown["provides_name"], shown["device_types"]) == ("release-1", ["beaglebone", "pump"])
    assert (await fleet.get(f"{P}/releases/m/1.1.0")).json["artifacts"] == [shown]


async def test_a_download_url_needs_no_credential(offered: Site) -> None:
    url = await url_of(offered)
    whole = await offered.call("GET", url)
    assert (whole.status, whole.body) == (200, BYTES)
    assert whole.headers["ETag"] == f'"{SHA256}"'
    head = await offered.call("HEAD", url)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(BYTES)))
    part = await offered.call(
        "GET", url, headers={"Range": "bytes=10000-", "If-Range": f'"{SHA256}"'}
    )
    assert (part.status, part.body) == (206, BYTES[10000:])
    other = await offered.call("GET", url, headers={"Range": "bytes=1-", "If-Range": '"x"'})
    assert (other.status, other.body) == (200, BYTES)


async def test_a_download_url_makes_prepared_views_live_unless_it_was_altered(
    offered: Site, db: Database
) -> None:
    url = await url_of(offered)
    await prepare(offered, db)
    before = await revisions(db, offered.log_id)
    assert (await offered.call("GET", f"{url}x")).status == 403
    assert await revisions(db, offered.log_id) == before != fold.REVISIONS
    assert (await offered.call("GET", url)).body == BYTES
    assert await revisions(db, offered.log_id) == fold.REVISIONS


async def test_a_download_url_that_was_altered_is_refused(offered: Site) -> None:
    url = await url_of(offered)
    path, _, query = url.partition("?")
    expiry, _, signature = query.removeprefix("e=").partition("&s=")
    altered = [
        path,
        f"{path}?e={expiry}",
        f"{path}?e={expiry}&s=",
        f"{path}?e={expiry}&s={signature[:-1]}",
        f"{path}?e={expiry}&s={signature}%00",
        f"{path}?e={expiry}&s=%ED%A0%80",
        f"{path}?e={int(expiry) + 1}&s={signature}",
        f"{path}?e=&s={signature}",
        f"{url}&e=1",
        f"{url}&x=1",
        url.replace("acme", "other"),
        url.replace("d1", "d2"),
        url.replace("d1", "d%00"),
        url.replace("full.bin", "other.bin"),
        url.replace(SHA256, "0" * 64),
    ]
    for each in altered:
        answer = await offered.call("GET", each)
        assert (answer.status, answer.json["code"]) == (403, "bad_download_url"), each


async def test_a_download_url_expires(offered: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    url, now_ms = await url_of(offered), offered.services.access.now_ms()
    expiry_ms = int(url.partition("?e=")[2].partition("&")[0]) * 1000
    assert expiry_ms - now_ms > download_urls.VALID_S * 1000
    monkeypatch.setattr(offered.services.access, "now_ms", lambda: expiry_ms - 1)
    assert (await offered.call("GET", url)).status == 200
    renewed = await url_of(offered)
    monkeypatch.setattr(offered.services.access, "now_ms", lambda: expiry_ms)
    assert (await offered.call("GET", url)).status == 403
    assert (await offered.call("GET", renewed)).status == 200


async def test_the_etag_of_a_check_in_does_not_change_with_each_poll(offered: Site) -> None:
    first = await check_in(offered)
    assert (await check_in(offered, If_None_Match=first.headers["ETag"])).status == 304


async def test_a_download_url_of_a_withdrawn_release_is_gone(offered: Site) -> None:
    url = await url_of(offered)
    await pin(offered, None)
    assert (await offered.call("GET", url)).status == 200
    await post(offered, "releases/m/1.1.0/withdraw", {"reason": "it bricks"})
    for method in ("GET", "HEAD"):
        assert (await offered.call(method, url)).status == 410


async def test_a_decommissioned_device_has_no_downloads(offered: Site) -> None:
    """A new secret ends no download that was granted."""
    url = await url_of(offered)
    rotated = await offered.call("POST", f"{D}/secret", caller="operator", json={})
    assert rotated.status == 201
    assert (await offered.call("GET", url)).status == 200
    assert (await offered.call("DELETE", D, caller="operator")).status in {200, 204}
    assert (await offered.call("GET", url)).status == 404


async def test_a_granted_download_waits_for_the_service_or_breaks(
    offered: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, project, failures = await url_of(offered), offered.services.access.project, [3]

    async def sometimes(name: str) -> int | None:
        failures[0] -= 1
        if failures[0] >= 0:
            raise Unavailable("away", 1)
        return await project(name)

    monkeypatch.setattr(offered.services.access, "project", sometimes)
    monkeypatch.setattr(downloads, "TRY_EVERY_S", 0.01)
    assert (await offered.call("GET", url)).body == BYTES
    monkeypatch.setattr(downloads, "PATIENCE_S", 0.05)
    failures[0] = 1000
    with pytest.raises(ClientConnectionError):
        async with asyncio.timeout(10):
            await offered.call("GET", url)


async def test_explain_names_the_artifact_that_clients_of_each_protocol_get(offered: Site) -> None:
    await put(offered, b"other", "fw.swu")
    shown = (await offered.get(f"{D}/explain")).json
    assert (shown["reason"], shown["artifacts"]["hawkbit"]) == ("pinned", "fw.swu")
    assert shown["artifacts"]["mender"] is None
    shown = (await offered.get(f"{D}/explain?protocol=mender")).json
    assert (shown["action"], shown["reason"]) == ("none", "no_artifact")
    setting = {"artifact_names": {"mender": "full.bin"}}
    assert (await offered.call("PATCH", P, caller="admin", json=setting)).json == {
        **(await offered.get(P)).json,
        **setting,
    }
    assert (await offered.get(f"{D}/explain?protocol=mender")).json["reason"] == "pinned"
    for wrong in ({"gopher": "a"}, {"mender": "/"}, {"mender": 7}, ["mender"]):
        body = {"artifact_names": wrong}
        assert (await offered.call("PATCH", P, caller="admin", json=body)).status == 422

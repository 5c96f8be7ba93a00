"""A device that has authenticated in any way keeps its secret when secrets are reissued."""

import asyncio
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.application import app
from firmtrail.database.database import Statement
from tests.databases import write
from tests.people import add_secret, new_access
from tests.service.site import D2, D, P, Site
from tests.service.steered import post

SEEN = Statement("SELECT device FROM device_seen ORDER BY device LIMIT 9")
REISSUE = f"{P}/devices?reissue=never_seen"


async def reissue(site: Site, device: str = "d1") -> int:
    answer = await site.call("POST", REISSUE, caller="operator", json=[{"device": device}])
    return 409 if "status" in answer.json[0] else answer.status


CALLS: dict[str, tuple[str, str, Any, int]] = {
    "a check-in": ("GET", f"{D}/update", None, 200),
    "a HEAD": ("HEAD", f"{D}/update", None, 200),
    "an unknown artifact": ("GET", f"{D}/artifacts/{'0' * 64}", None, 404),
    "a refused body": ("POST", f"{D}/reports", {"version": "nonsense"}, 422),
    "an unreadable query": ("GET", f"{D}/update?running=nonsense", None, 422),
    "a route of others": ("GET", D, None, 403),
    "a report": ("POST", f"{D}/reports", {"version": "1.0.0"}, 201),
    "an array of which nothing is recorded": ("POST", f"{D}/reports", [], 200),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("text", [None, "weak"], ids=["strong", "weak"])
async def test_a_call_of_a_device_protects_its_secret(
    site: Site, call: tuple[str, str, Any, int], text: str | None
) -> None:
    method, path, body, status = call
    if text is not None:
        services = site.services
        site.credentials["device"] = await add_secret(
            services.db, services.access, "acme", "d1", text=text
        )
    answer = await site.call(method, path, caller="device", json=body)
    assert answer.status == status
    assert await reissue(site) == 409
    assert (await site.get(f"{D}/update", "device")).status == 200


async def test_a_304_protects_the_secret(site: Site) -> None:
    etag = (await site.get(f"{D}/update", "operator")).headers["ETag"]
    assert (await site.get(f"{D}/update", "device", If_None_Match=etag)).status == 304
    assert await reissue(site) == 409


async def test_a_call_of_another_server_protects_the_secret(site: Site) -> None:
    access = new_access(site.services.db)
    other = app.services(site.services.db, access, site.services.recorder, site.services.serving)
    server = TestServer(app.build(other))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        sent = {"Authorization": f"Bearer {site.credentials['device']}"}
        async with client.get(f"{D}/update", headers=sent) as answer:
            assert answer.status == 200
        assert await reissue(site) == 409
    access.hasher.close()


async def test_a_device_that_never_called_gets_a_new_secret_any_number_of_times(
    site: Site,
) -> None:
    for _ in range(2):
        assert await reissue(site) == 200
    assert (await site.get(f"{D}/update", "device")).status == 401
    assert (await site.get(D)).json["last_seen_at"] is None


@pytest.mark.parametrize(("registered_s_ago", "silent"), [(0, []), (86_401, ["d1", "d2"])])
async def test_a_device_that_never_called_is_silent_since_its_registration(
    site: Site, registered_s_ago: int, silent: list[str]
) -> None:
    earlier = "UPDATE device_current SET registered_at_ms = registered_at_ms - $1"
    await write(site.services.db, earlier, registered_s_ago * 1000)
    found = await site.get(f"{P}/devices?silent_for=86400")
    assert [each["device"] for each in found.json["items"]] == silent


async def test_a_refused_secret_protects_nothing(site: Site) -> None:
    assert (await site.get(f"{D2}/update", "device")).status in {401, 404}
    assert await reissue(site, "d2") == 200


async def test_a_device_that_called_before_writes_nothing_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await site.get(f"{D}/update", "device")).status == 200

    def none(*_: object) -> None:
        raise AssertionError("a transaction was opened")

    monkeypatch.setattr(site.services.db, "transaction", none)
    assert (await site.get(f"{D}/update", "device")).status == 200


async def test_a_device_that_has_reported_needs_no_row_of_its_own(site: Site) -> None:
    assert (await site.report({"version": "1.0.0"})).status == 201
    found = await site.services.access.find(
        site.credentials["device"], "acme", "d1", address="127.0.0.1"
    )
    assert found.was_seen == 1
    rows = await site.services.db.read(SEEN)
    assert rows == []


async def test_a_parallel_reissue_never_revokes_a_secret_that_was_accepted(site: Site) -> None:
    for number in range(20):
        name = f"x{number}"
        made = await post(site, "devices", {"device": name})
        site.credentials[name] = made.json["secret"]
        called, _ = await asyncio.gather(
            site.get(f"{P}/devices/{name}/update", name), reissue(site, name)
        )
        after = await site.get(f"{P}/devices/{name}/update", name)
        assert called.status == after.status

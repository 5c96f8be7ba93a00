"""Tests that the client's own address counts through a proxy, and that links lead through it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from firmtrail.application import app
from firmtrail.config import networks
from firmtrail.http.auth import authentication
from firmtrail.http.clients import Clients
from tests.people import add_secret
from tests.service.site import D, P, Site
from tests.service.steered import post, roll_out
from tests.serving import Answer

THROUGH = {
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "fleet.example:8443",
    "X-Forwarded-Prefix": "/ft",
}


@pytest.fixture(params=["127.0.0.0/8", "10.0.0.0/8"], ids=["trusted", "not trusted"])
def trusted(request: pytest.FixtureRequest) -> str:
    network: str = request.param
    return network


@pytest.fixture
async def proxied(fleet: Site, trusted: str) -> AsyncIterator[Site]:
    """Serves the fleet on a server that trusts this proxy, or another one."""
    clients, old = Clients(networks(trusted)), fleet.services
    services = replace(
        old, clients=clients, authentication=authentication(old.access, old.db, clients)
    )
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        yield replace(fleet, client=client, services=services)


async def log_in(site: Site, address: str, password: str) -> Answer:
    body = {"email": "person@example.org", "password": password}
    headers = {"X-Forwarded-For": f"6.6.6.6, {address}"}
    return await site.call("POST", "/api/v1/login", json=body, headers=headers)


@pytest.mark.parametrize("trusted", ["127.0.0.0/8"])
async def test_one_client_locks_out_no_other(proxied: Site) -> None:
    guesses = [await log_in(proxied, "192.0.2.1", f"guess {n}") for n in range(21)]
    assert [each.status for each in guesses] == [401] * 20 + [429]
    assert (await log_in(proxied, "192.0.2.2", "guess")).status == 401


@pytest.mark.parametrize("trusted", ["10.0.0.0/8"])
async def test_an_untrusted_clients_header_changes_nothing(proxied: Site) -> None:
    guesses = [await log_in(proxied, f"192.0.2.{n}", f"guess {n}") for n in range(21)]
    assert [each.status for each in guesses] == [401] * 20 + [429]


async def test_wrong_strong_secrets_are_counted_and_lock_nobody_out(
    proxied: Site, trusted: str
) -> None:
    secret = await add_secret(proxied.services.db, proxied.services.access, "acme", "d2")

    async def call(credential: str, address: str) -> int:
        headers = {"Authorization": f"Bearer {credential}", "X-Forwarded-For": address}
        return (await proxied.call("GET", f"{P}/devices/d2/update", headers=headers)).status

    for wrong in ("fts_1", "ftt_1", "x" * 40):
        for _ in range(100):
            assert await call(wrong, "192.0.2.1") == 401
    assert await call("fts_2", "192.0.2.1") == 429
    assert await call("y" * 32, "192.0.2.1") == 429
    assert await call(secret, "192.0.2.1") == 200
    other = 401 if trusted == "127.0.0.0/8" else 429
    assert await call("fts_2", "192.0.2.2") == other


async def test_the_clients_address_is_in_every_line_of_a_request(
    proxied: Site, trusted: str
) -> None:
    address = "192.0.2.1" if trusted == "127.0.0.0/8" else "127.0.0.1"
    with capture_logs() as logged:
        for path in ("/nowhere", "/healthz", f"{P}/devices"):
            await proxied.call("GET", path, headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.1"})
    assert [line["address"] for line in logged if "request_id" in line] == [address] * 3


async def test_the_access_record_names_the_address(proxied: Site, trusted: str) -> None:
    address = "192.0.2.1" if trusted == "127.0.0.0/8" else "127.0.0.1"
    await proxied.get(f"{P}/events", "auditor", X_Forwarded_For="192.0.2.1")
    [newest, *_] = (await proxied.get(f"{P}/access-record", "auditor")).json["items"]
    assert (newest["path"], newest["address"]) == ("/events", address)


def in_underscores(headers: dict[str, str]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


async def test_links_lead_through_the_proxy(proxied: Site, trusted: str) -> None:
    prefix = "/ft" if trusted == "127.0.0.0/8" else ""
    listed = await proxied.get(f"{P}/devices?limit=1", **in_underscores(THROUGH))
    assert listed.headers["Link"].startswith(f"<{prefix}/api/v1/projects/acme/devices?")
    document = (await proxied.call("GET", "/openapi.json", headers=THROUGH)).json
    if prefix:
        assert document["servers"] == [{"url": "https://fleet.example:8443/ft"}]
    else:
        assert "servers" not in document


async def test_artifacts_lead_through_the_proxy(proxied: Site, trusted: str) -> None:
    prefix = "/ft" if trusted == "127.0.0.0/8" else ""
    path = f"{P}/releases/m/1.1.0/artifacts/fw"
    await proxied.call("PUT", path, caller="operator", data=b"bytes")
    await roll_out(proxied)
    answer = await proxied.get(f"{D}/update", "device", **in_underscores(THROUGH))
    [artifact] = answer.json["artifacts"]
    assert artifact["url"].startswith(f"{prefix}{D}/artifacts/")
    plain = await proxied.get(f"{D}/update", "device")
    assert plain.json["artifacts"][0]["url"].startswith(f"{D}/artifacts/")


async def test_a_malformed_header_is_no_error(proxied: Site) -> None:
    for value in (
        "",
        ",",
        "unknown",
        "999.1.1.1",
        '"',
        "for=",
        "\xff",
        "[::1",
        "::1]:x",
        "a" * 7000,
    ):
        for name in ("X-Forwarded-For", "Forwarded", *THROUGH):
            headers = {name: value}
            assert (await proxied.call("GET", "/openapi.json", headers=headers)).status == 200
            guess = await proxied.call(
                "GET", f"{D}/update", headers={**headers, "Authorization": "Bearer ftt_1"}
            )
            assert guess.status == 401


SECRETS = {
    "fts_1": 422,
    "ftt_1": 422,
    "fts_": 422,
    "fts_" + "a" * 42: 422,
    "fts_" + "a" * 44: 422,
    "fts_" + "a" * 42 + "!": 422,
    "fts_" + "a" * 42 + "=": 422,
    "fts_" + "a" * 43: 201,
    "ftt_" + "-_" * 21 + "Z": 201,
    "FTS_1": 201,
    "xfts_1": 201,
    "short": 201,
    "serial-number-0000000000000000000001": 201,
}


@pytest.mark.parametrize(("secret", "status"), SECRETS.items())
async def test_a_given_secret_with_our_prefix_must_have_our_form(
    site: Site, secret: str, status: int
) -> None:
    one = await post(site, "devices", {"device": "new", "secret": secret})
    assert one.status == status
    many = await post(site, "devices", [{"device": "new2", "secret": secret}])
    assert many.status == status
    if status == 422:
        assert one.json["errors"][0]["pointer"] == "/secret"

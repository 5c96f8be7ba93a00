"""Tests what a device's client certificate opens, when a proxy has verified it, on both back
ends."""

from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient, TestServer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from firmtrail.application import app
from firmtrail.config import networks
from firmtrail.http.auth import authentication
from firmtrail.http.callers import DeviceAccess, GatewayAccess, MemberAccess
from firmtrail.http.clients import Clients
from tests.authority import Authority
from tests.fleet import register
from tests.service.certificates import rfc_9440
from tests.service.routes import NAMES, ROUTES, path_of
from tests.service.site import D, P, Site
from tests.serving import Answer

HEADER = "X-Device-Certificate"
AUTHORITY = Authority()
PATTERN = "O=acme,CN={device}"
REPORT = {"version": "1.4.0"}


def of_nginx(certificate: x509.Certificate) -> str:
    return quote(certificate.public_bytes(Encoding.PEM).decode())


def of_haproxy(certificate: x509.Certificate) -> str:
    return rfc_9440(certificate).strip(":")


def shown(device: str, organization: str = "acme", days: tuple[int, int] = (-1, 1)) -> str:
    return rfc_9440(AUTHORITY.issued(device, organization, days=days)[0])


OWN = shown("d1")


async def served(site: Site, trusted: str) -> AsyncIterator[Site]:
    clients, old = Clients(networks(trusted)), site.services
    found = authentication(old.access, old.db, clients, HEADER)
    server = TestServer(app.build(replace(old, clients=clients, authentication=found)))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        yield replace(site, client=client)


@pytest.fixture
async def proxied(site: Site) -> AsyncIterator[Site]:
    """The site through a proxy, with a pattern for the certificates of acme."""
    await set_pattern(site, PATTERN)
    async for each in served(site, "127.0.0.0/8"):
        yield each


async def set_pattern(site: Site, pattern: str | None) -> None:
    wanted = {"certificate_pattern": pattern}
    assert (await site.call("PATCH", P, caller="admin", json=wanted)).status == 200


async def presented(site: Site, text: str, method: str = "GET", path: str = D) -> Answer:
    json = REPORT if method == "POST" else None
    return await site.call(method, path, json=json, headers={HEADER: text})


async def report(site: Site, text: str, path: str = D) -> int:
    return (await presented(site, text, "POST", f"{path}/reports")).status


async def test_a_certificate_is_the_credential_of_its_device(proxied: Site) -> None:
    for form in (rfc_9440, of_nginx, of_haproxy):
        certificate, _ = AUTHORITY.issued("d1", "acme")
        assert (await presented(proxied, form(certificate), path=f"{D}/update")).status == 200
    assert await report(proxied, OWN) == 201
    shown_device = (await proxied.get(D, "viewer")).json
    assert shown_device["version"] == "1.4.0"
    assert shown_device["last_seen_at"] is not None
    last = (await proxied.get(f"{P}/events", "auditor")).body.splitlines()[-1]
    assert b'"actor":"device/d1"' in last


async def test_a_certificate_opens_no_other_devices_path(proxied: Site) -> None:
    other = await proxied.services.access.project("other")
    assert other is not None
    await register(proxied.services.recorder, other, "d1")
    for text, path in (
        (shown("d2"), D),
        (shown("d1", "other"), D),
        (shown("d9"), f"{P}/devices/d9"),
        (shown("a device"), D),
        (OWN, f"{P}/devices/d2"),
        (OWN, "/api/v1/projects/other/devices/d1"),
        (OWN, "/api/v1/projects/nowhere/devices/d1"),
        (shown("d1", days=(-3, -1)), D),
        (shown("d1", days=(1, 3)), D),
        (f"{OWN}, {OWN}", D),
        (OWN[:-9], D),
        ("-----BEGIN%20CERTIFICATE-----", D),
        ("é", D),
        ("", D),
    ):
        answer = await presented(proxied, text, "POST", f"{path}/reports")
        assert answer.status == 401, (text, path)
        assert answer.headers["WWW-Authenticate"]
    assert (await proxied.get(D, "viewer")).json["version"] is None


ODD_NAMES = {
    "an X.400 address": bytes.fromhex("3004a3023000"),
    "an EDI party": bytes.fromhex("3006a504a1020c00"),
    "no names": b"\xff\xff",
    "a name that is not ASCII": bytes.fromhex("30048202fffe"),
    "an address of three bytes": bytes.fromhex("30058703010203"),
}


@pytest.mark.one_back_end
@pytest.mark.parametrize("encoded", ODD_NAMES.values(), ids=ODD_NAMES)
async def test_a_certificate_that_can_not_be_read_is_none(proxied: Site, encoded: bytes) -> None:
    odd, _ = AUTHORITY.issued("d1", "acme", encoded_names=encoded)
    for form in (rfc_9440, of_nginx):
        assert await report(proxied, form(odd)) == 401


async def test_a_certificate_of_an_unknown_version_is_none(proxied: Site) -> None:
    certificate, _ = AUTHORITY.issued("d1", "acme")
    der = certificate.public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert der.count(version) == 1
    odd = b64encode(der.replace(version, bytes.fromhex("a003020105"))).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{odd}\n-----END CERTIFICATE-----\n"
    for text in (f":{odd}:", quote(pem)):
        assert await report(proxied, text) == 401


async def test_a_certificate_opens_no_route_of_users_or_gateways(proxied: Site) -> None:
    checked = set()
    for route in ROUTES:
        path = path_of(route, **NAMES | {"project": "acme", "device": "d1"})
        if isinstance(route.access, GatewayAccess):
            expected = 401
        elif isinstance(route.access, MemberAccess) and route.access.presents is None:
            expected = 403
        elif isinstance(route.access, DeviceAccess) and "{device}" not in route.path:
            expected = 401
        else:
            continue
        answer = await proxied.call(route.method, path, headers={HEADER: OWN}, data=b"no json")
        assert answer.status == expected, path
        checked.add(expected)
    assert checked == {401, 403}


async def test_the_pattern_and_the_device_decide_with_each_request(proxied: Site) -> None:
    assert await report(proxied, OWN) == 201
    await set_pattern(proxied, "O=other,CN={device}")
    assert await report(proxied, OWN) == 401
    await set_pattern(proxied, None)
    assert await report(proxied, OWN) == 401
    await set_pattern(proxied, PATTERN)
    assert await report(proxied, OWN) == 200
    await proxied.call("DELETE", D, caller="operator")
    assert await report(proxied, OWN) == 401
    await proxied.call("PATCH", D, caller="operator", json={"decommissioned": False})
    assert await report(proxied, OWN) in {200, 201}


async def test_another_credential_counts_before_a_certificate(proxied: Site) -> None:
    for caller, expected in (("wrong", 401), ("viewer", 200)):
        proxied.credentials["wrong"] = "fts_" + "x" * 43
        answer = await proxied.call("GET", D, caller=caller, headers={HEADER: OWN})
        assert answer.status == expected


async def test_a_certificate_does_not_count_next_to_an_authorization_of_any_form(
    proxied: Site,
) -> None:
    for value in ("Foo x", "", "Bearer", "Basic", "Basic !", "Basic Og==", "Negotiate abc"):
        for path in (f"{D}/update", "/acme/controller/v1/d1", f"{P}/devices"):
            headers = {HEADER: OWN, "Authorization": value}
            answer = await proxied.call("GET", path, headers=headers)
            assert answer.status == 401, (value, path)


async def test_a_header_from_no_trusted_proxy_is_nothing(site: Site) -> None:
    await set_pattern(site, PATTERN)
    async for direct in served(site, "10.0.0.0/8"):
        assert await report(direct, OWN) == 401


async def test_a_certificate_serves_other_protocols_that_name_the_device(proxied: Site) -> None:
    answer = await presented(proxied, OWN, path="/acme/controller/v1/d1")
    assert answer.status == 200
    assert (await presented(proxied, OWN, path="/acme/controller/v1/d2")).status == 401
    assert (await presented(proxied, OWN, path="/default/controller/v1/d1")).status == 401


async def test_a_bad_pattern_is_refused(site: Site) -> None:
    for pattern in ("", "CN=x", "CN={device},DNS={device}", "C={device}", "CN={device}" * 60):
        answer = await site.call("PATCH", P, caller="admin", json={"certificate_pattern": pattern})
        assert answer.status == 422, pattern
        assert answer.json["errors"][0]["pointer"] == "/certificate_pattern"

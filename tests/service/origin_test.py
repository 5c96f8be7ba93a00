"""Tests that pages of other sites change nothing, and that every answer protects browsers."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from firmtrail.application import app
from firmtrail.http.callers import LocalAccess
from firmtrail.http.connection import HttpRunner
from tests.service.routes import ROUTES, assert_is_problem, path_of
from tests.service.site import P, Site

pytestmark = pytest.mark.one_back_end

FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://{host}"},
    {"Sec-Fetch-Site": "none", "Origin": "https://evil.example"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://{host}.evil.example"},
    {"Origin": "http://{host}0"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "file://"},
]
OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://fleet.example"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://{host}"},
    {"Origin": "https://{host}"},
    {"Origin": "HTTP://{host}"},
]


def at(site: Site, headers: dict[str, str]) -> dict[str, str]:
    host = f"{site.client.host}:{site.client.port}"
    return {name: value.format(host=host) for name, value in headers.items()}


@pytest.mark.parametrize("headers", FOREIGN)
async def test_pages_of_other_sites_change_nothing(site: Site, headers: dict[str, str]) -> None:
    sent = at(site, headers)
    for path in (f"{P}/halt", f"{P}/resume"):
        answer = await site.call("POST", path, caller="admin", data=b"{}", headers=sent)
        assert assert_is_problem(answer, 403)["code"] == "cross_site"
    assert (await site.call("GET", P, caller="admin", headers=sent)).status == 200


@pytest.mark.parametrize("headers", OWN)
async def test_own_pages_and_other_clients_may_change_things(
    site: Site, headers: dict[str, str]
) -> None:
    sent = at(site, headers) | {"Content-Type": "application/json"}
    answer = await site.call("POST", f"{P}/halt", caller="admin", data=b"{}", headers=sent)
    assert answer.status == 200


async def test_no_route_lets_pages_of_other_sites_change_anything(site: Site) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    for route in ROUTES:
        if route.method != "GET" and not isinstance(route.access, LocalAccess):
            answer = await site.call(route.method, path_of(route), caller="admin", headers=headers)
            assert_is_problem(answer, 403)


async def test_every_answer_has_the_protecting_headers(site: Site) -> None:
    paths = [(route.method, path_of(route)) for route in ROUTES]
    for method, path in [*paths, ("GET", "/nothing"), ("PUT", "/healthz"), ("POST", f"{P}/halt")]:
        sent = {"Authorization": f"Bearer {site.credentials['admin']}"}
        async with site.client.request(method, path, headers=sent) as response:
            headers = response.headers
        assert headers.getall("X-Content-Type-Options") == ["nosniff"], path
        assert headers.getall("Server") == ["firmtrail"], path
        assert "Strict-Transport-Security" not in headers


def new_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture
async def tls_address(site: Site, tmp_path: Path) -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*new_certificate(tmp_path))
    runner = HttpRunner(
        app.build(site.services),
        gate=site.services.gate,
        clients=site.services.clients,
        **app.RUNNER_OPTIONS,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_under_tls_browsers_are_asked_to_stay_with_tls(site: Site, tls_address: str) -> None:
    admin = {"Authorization": f"Bearer {site.credentials['admin']}"}
    async with ClientSession() as client:
        for path in ("/healthz", "/nothing", f"{P}/events", f"{P}/devices", "/docs"):
            url = f"https://{tls_address}{path}"
            async with client.get(url, ssl=False, headers=admin) as response:
                value = response.headers["Strict-Transport-Security"]
            assert value == "max-age=31536000", path
        url = f"https://{tls_address}{P}/halt"
        for origin, status in (("https", 200), ("http", 403)):
            headers = admin | {"Origin": f"{origin}://{tls_address}"}
            async with client.post(url, json={}, ssl=False, headers=headers) as response:
                assert response.status == status


async def test_the_answer_to_an_invalid_request_has_the_protecting_headers(
    site: Site, tls_address: str
) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = tls_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    writer.close()
    for line in ("x-content-type-options: nosniff", "server: firmtrail", "strict-transport-"):
        assert line in head
    assert "aiohttp" not in head
    assert "python" not in head

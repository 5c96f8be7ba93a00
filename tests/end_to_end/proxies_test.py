"""Runs the configurations in deploy/ with a real nginx and a real HAProxy."""

import asyncio
import io
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from aiohttp import ClientSession, TCPConnector

from firmtrail import config
from tests.databases import migrate_now
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import Server
from tests.end_to_end.proxies import (
    DEPLOY,
    certificate,
    haproxy,
    nginx,
    until_it_answers,
)
from tests.end_to_end.site import MODEL, P, Site, get, new_site, post
from tests.patience import PATIENCE_S
from tests.ports import free_port

CLIENT = "127.0.0.9"
LONG_POLL_S = 2

SPOOFED = {
    "X-Forwarded-For": "6.6.6.6",
    "Forwarded": "for=6.6.6.6;host=evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "http",
}


@dataclass(frozen=True)
class Proxied:
    """Holds a server, and the URL of the proxy in front of it."""

    site: Site
    server: Server
    url: str
    session: ClientSession

    @property
    def device(self) -> str:
        return f"{self.url}{P}/devices/d1"


@pytest.fixture(params=["nginx", "haproxy"])
async def proxied(
    request: pytest.FixtureRequest, serve: Serve, tmp_path: Path
) -> AsyncIterator[Proxied]:
    program = request.param
    assert shutil.which(program), f"{program} is needed: apt-get install {program}"
    database = f"sqlite:///{tmp_path / 'f.db'}"
    await asyncio.to_thread(migrate_now, database)
    site = await new_site(database, ["d1", "d2"])
    options = ("--trusted-proxies", "127.0.0.1", "--long-poll-max", str(LONG_POLL_S))
    server = await asyncio.to_thread(serve, database, *options)
    certificate(tmp_path)
    port = free_port()
    configured = {"nginx": nginx, "haproxy": haproxy}[program]
    command = configured(tmp_path, port, urlsplit(server.url).netloc)
    process = await asyncio.to_thread(subprocess.Popen, command)
    try:
        await until_it_answers(process, port)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "fleet.crt"))
        trusting.check_hostname = False
        connector = TCPConnector(ssl=trusting, local_addr=(CLIENT, 0))
        async with ClientSession(connector=connector) as session:
            yield Proxied(site, server, f"https://127.0.0.1:{port}", session)
    finally:
        process.terminate()
        process.wait(10)


async def test_the_client_is_known_and_can_not_pass_for_another(proxied: Proxied) -> None:
    body = {"email": "a@b.example", "password": "wrong"}
    url = f"{proxied.url}/api/v1/login"
    async with proxied.session.post(url, json=body, headers=SPOOFED) as answer:
        assert answer.status == 401
    async with asyncio.timeout(PATIENCE_S):  # the line is written after the answer
        while not (lines := lines_of(proxied.server, "/api/v1/login")):
            await asyncio.sleep(0.05)
    assert [line["address"] for line in lines] == [CLIENT]


def lines_of(server: Server, route: str) -> list[dict[str, Any]]:
    return [line for line in server.said("request") if line["route"] == route]


@pytest.mark.parametrize("prefix", ["", "/firmtrail"])
async def test_links_lead_back_through_the_proxy(proxied: Proxied, prefix: str) -> None:
    base = f"{proxied.url}{prefix}"
    headers = {**SPOOFED, "Authorization": f"Bearer {proxied.site.admin}"}
    async with proxied.session.get(f"{base}/openapi.json", headers=SPOOFED) as answer:
        assert (await answer.json())["servers"] == [{"url": base}]
    async with proxied.session.get(f"{base}{P}/devices?limit=1", headers=headers) as answer:
        link = answer.links["next"]["url"]
    assert urljoin(base, str(link)).startswith(f"{base}{P}/devices?")
    async with proxied.session.get(link, headers=headers) as answer:
        assert [each["device"] for each in (await answer.json())["items"]] == ["d2"]


async def test_a_long_poll_is_answered_by_the_service(proxied: Proxied) -> None:
    secret = proxied.site.secrets["d1"]
    etag = (await get(proxied.session, f"{proxied.device}/update", secret)).headers["ETag"]
    headers = {"Authorization": f"Bearer {secret}", "If-None-Match": etag}
    began = time.monotonic()
    url = f"{proxied.device}/update?wait=60"
    async with proxied.session.get(url, headers=headers) as answer:
        assert answer.status == 304
        assert "Firmtrail-Poll-After" in answer.headers
    assert LONG_POLL_S - 0.5 < time.monotonic() - began < LONG_POLL_S + 10


@pytest.mark.parametrize("size_bytes", [3 * 1024**2])
async def test_artifacts_pass_in_both_directions(proxied: Proxied, size_bytes: int) -> None:
    release = {"model": MODEL, "version": "1.0.0"}
    made = await post(proxied.session, f"{proxied.url}{P}/releases", proxied.site.admin, release)
    assert made.status == 201
    content = os.urandom(size_bytes)
    url = f"{proxied.url}{P}/releases/{MODEL}/1.0.0/artifacts/fw"
    headers = {"Authorization": f"Bearer {proxied.site.admin}"}
    async with proxied.session.put(url, data=io.BytesIO(content), headers=headers) as answer:
        assert answer.status == 201, await answer.text()
    assert (await get(proxied.session, url, proxied.site.admin)).body == content


async def test_events_pass_immediately(proxied: Proxied) -> None:
    headers = {"Authorization": f"Bearer {proxied.site.admin}"}
    async with proxied.session.get(f"{proxied.url}{P}/stream", headers=headers) as stream:
        assert (await stream.content.readline()).startswith(b"retry:")
        secret = proxied.site.secrets["d1"]
        report = {"version": "1.0.0"}
        assert (
            await post(proxied.session, f"{proxied.device}/reports", secret, report)
        ).status == 201
        async with asyncio.timeout(PATIENCE_S):
            while not (await stream.content.readline()).startswith(b"data:"):
                pass


def seconds(text: str, pattern: str) -> Iterator[int]:
    return (int(found) for found in re.findall(pattern, text))


def test_the_proxies_wait_longer_than_a_long_poll() -> None:
    nginx_s = seconds((DEPLOY / "nginx.conf").read_text(), r"proxy_read_timeout (\d+)s;")
    haproxy_s = seconds(
        (DEPLOY / "haproxy.cfg").read_text(), r"timeout (?:client|server|http-keep-alive) (\d+)s"
    )
    assert [*nginx_s, *haproxy_s] == [75] * 4
    assert config.LONG_POLL_S_MAX < 75

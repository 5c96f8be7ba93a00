"""Tests that nginx and HAProxy pass on the certificates of devices as docs/proxies.md says."""

import asyncio
import re
import ssl
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from aiohttp import ClientOSError, ClientSession, ServerDisconnectedError, TCPConnector

from tests.authority import Authority
from tests.databases import migrate_now
from tests.end_to_end.conftest import Serve
from tests.end_to_end.proxies import (
    certificate,
    haproxy,
    nginx,
    replaced,
    until_it_answers,
)
from tests.end_to_end.site import P, new_site
from tests.ports import free_port
from tests.service.certificates import rfc_9440

DOCS = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text()
[VERIFY, OPTIONAL, PASS_ON] = [
    line.partition("#")[0].strip()
    for line in re.findall(r"```nginx\n(.*?)```", DOCS, re.DOTALL)[0].splitlines()
]
[BIND, SET] = re.findall(r"```text\n(bind.*)\n(http-request set.*)\n```", DOCS)[0]
REPORT = {"version": "1.0.0"}


def verifying(program: str, folder: Path, port: int, upstream: str) -> list[str]:
    """Configures a proxy as the page says, and returns its command."""
    command = {"nginx": nginx, "haproxy": haproxy}[program](folder, port, upstream)
    delete = "http-request del-header Client-Cert"
    changes = {
        "nginx": {
            "proxy_set_header Client-Cert": f"{VERIFY} {OPTIONAL} {PASS_ON} #",
        },
        "haproxy": {
            f"fleet.pem{'\n'}": f"fleet.pem {BIND.partition('fleet.pem ')[2]}\n",
            delete: f"{delete}\n    {SET}",
        },
    }[program]
    path = folder / {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[program]
    text = replaced(path.read_text(), changes)
    path.write_text(text.replace("/etc/ssl/devices.pem", str(folder / "devices.pem")))
    return command


def client(folder: Path, name: str | None, authority: Authority) -> TCPConnector:
    """Returns connections with a certificate of this name; None: with none."""
    context = ssl.create_default_context(cafile=str(folder / "fleet.crt"))
    context.check_hostname = False
    if name is not None:
        context.load_cert_chain(*authority.files(folder, name))
    return TCPConnector(ssl=context)


@pytest.mark.parametrize("program", ["nginx", "haproxy"])
async def test_a_proxy_passes_on_what_it_has_verified_and_nothing_else(
    program: str, serve: Serve, tmp_path: Path
) -> None:
    database, authority = f"sqlite:///{tmp_path / 'f.db'}", Authority()
    await asyncio.to_thread(migrate_now, database)
    site = await new_site(database, ["d1"])
    options = ("--trusted-proxies", "127.0.0.1", "--certificate-header", "Client-Cert")
    server = await asyncio.to_thread(serve, database, *options)
    certificate(tmp_path)
    authority.file(tmp_path).rename(tmp_path / "devices.pem")
    port = free_port()
    command = verifying(program, tmp_path, port, urlsplit(server.url).netloc)
    process = await asyncio.to_thread(subprocess.Popen, command)
    try:
        await until_it_answers(process, port)
        url = f"https://127.0.0.1:{port}{P}"
        async with ClientSession(connector=client(tmp_path, None, authority)) as session:
            admin = {"Authorization": f"Bearer {site.admin}"}
            wanted = {"certificate_pattern": "CN={device}"}
            async with session.patch(url, json=wanted, headers=admin) as answer:
                assert answer.status == 200
            own, _ = authority.issued("d1")
            assert await reported(session, url, rfc_9440(own)) == 401, "the client's own header"
        for name, expected in (("d1", 201), ("d2", 401)):
            async with ClientSession(connector=client(tmp_path, name, authority)) as session:
                assert await reported(session, url) == expected
        async with ClientSession(connector=client(tmp_path, "d1", Authority())) as session:
            assert await reported(session, url) in {400, 0}
    finally:
        process.terminate()
        process.wait(10)


async def reported(session: ClientSession, url: str, spoofed: str = "") -> int:
    """Sends a report with this text in the proxy's header; returns the status, or 0 where the proxy
    breaks the connection."""
    sent = {"Content-Type": "application/json", "Client-Cert": spoofed}
    body = msgspec.json.encode(REPORT).decode()
    try:
        async with session.post(f"{url}/devices/d1/reports", data=body, headers=sent) as answer:
            return answer.status
    except (ClientOSError, ServerDisconnectedError):
        return 0

"""Runs HAProxy in front of two servers, and says to which of them it sends requests."""

import asyncio
import csv
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ports import free_port

HAPROXY = """\
global
    stats socket {socket} level admin
defaults
    mode http
    timeout connect 5s
    timeout http-request 10s
    timeout http-keep-alive 75s
    timeout client 75s
    timeout server 75s
    timeout check 5s
    http-error status 503 content-type text/plain hdr Retry-After 1 string "No server is ready."
frontend fleet
    bind 127.0.0.1:{port}
    default_backend firmtrail
backend firmtrail
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 200ms fastinter 100ms fall 2 rise 2
    server a 127.0.0.1:{a}
    server b 127.0.0.1:{b}
"""


def stats(folder: Path) -> Path:
    """Returns the socket on which HAProxy says which servers it uses."""
    return folder / "haproxy.sock"


async def until_up(folder: Path, name: str) -> None:
    """Waits until HAProxy may send requests to the server, which is ready."""
    async with asyncio.timeout(600):
        while True:
            rows = csv.DictReader((await asked(folder, "show stat")).splitlines())
            [found] = [each["status"] for each in rows if each["svname"] == name]
            if found.startswith(("UP", "DRAIN")):
                return
            await asyncio.sleep(0.1)


async def asked(folder: Path, commands: str) -> str:
    """Returns the answer of HAProxy to these commands."""
    reader, writer = await asyncio.open_unix_connection(stats(folder))
    writer.write(f"{commands}\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def use(folder: Path, *, used: str, unused: str) -> None:
    """Makes HAProxy send new requests to one server and none to the other, as one step."""
    before, after = f"firmtrail/{used} state ready", f"firmtrail/{unused} state drain"
    assert (await asked(folder, f"set server {before}; set server {after}")).strip() == ""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[str, int, int]]:
    """HAProxy's address, and the ports of the two servers after it."""
    if not shutil.which("haproxy"):
        pytest.fail("HAProxy is needed: apt-get install haproxy", pytrace=False)
    port, a, b = free_port(), free_port(), free_port()
    (tmp_path / "haproxy.cfg").write_text(
        HAPROXY.format(port=port, a=a, b=b, socket=stats(tmp_path))
    )
    with (tmp_path / "haproxy.log").open("wb") as log:
        command = ["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}", a, b
    process.terminate()
    process.wait()

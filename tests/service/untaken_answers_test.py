"""Tests that a client that takes nothing of its answers is cut, and that a slow one gets them."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest
from aiohttp import web

from firmtrail.http import connection, origin
from firmtrail.http.clients import Clients
from firmtrail.http.connection import HttpRunner
from firmtrail.http.gate import Bounds, Gate
from firmtrail.http.metrics import Metrics
from tests.authority import Authority
from tests.patience import PATIENCE_S

BODY = b"x" * 30_000
BUFFER_BYTES = 4096
"""Of the kernel, on each side: far less than an answer."""
KEEP_ALIVE_S = 0.1
WRITE_S = 1.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"


async def answer(_: web.Request) -> web.Response:
    return web.Response(body=BODY, content_type="text/plain", headers=origin.PROTECTION)


@pytest.fixture
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext | None:
    if not getattr(request, "param", False):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority().files(tmp_path, "localhost"))
    return context


@pytest.fixture
async def runner(tls: ssl.SSLContext | None) -> AsyncIterator[HttpRunner]:
    app, clients = web.Application(), Clients()
    app.router.add_get("/", answer)
    gate = Gate(Bounds(connections=1, per_address=1), clients, Metrics())
    runner = HttpRunner(
        app, gate=gate, clients=clients, tls=tls, access_log=None, keepalive_timeout=KEEP_ALIVE_S
    )
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        await web.SockSite(runner, listening).start()
        yield runner
        await runner.cleanup()


async def connected(runner: HttpRunner, request: bytes) -> socket.socket:
    """Returns a connection on which the request was sent, and whose answer nobody reads yet."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.settimeout(0)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, runner.addresses[0])
    await loop.sock_sendall(client, request)
    return client


def open_count(runner: HttpRunner) -> int:
    assert runner.server is not None
    return len(runner.server.connections)


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"\r\n",
        3 * (GET + b"\r\n"),
        GET + b"Connection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ],
    ids=["idle", "pipelined", "closing", "HTTP/1.0"],
)
async def test_a_client_that_takes_nothing_is_cut(
    runner: HttpRunner, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr(connection, "WRITE_S", WRITE_S)
    began_s = monotonic()
    with await connected(runner, request_):
        async with asyncio.timeout(PATIENCE_S):
            while not open_count(runner):
                await asyncio.sleep(0.01)
            while open_count(runner):
                await asyncio.sleep(0.01)
    assert monotonic() - began_s >= WRITE_S * 0.8


class TlsClient:
    """Speaks TLS on a connection, of which it reads only as much as a test wants."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._received, self._sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._tls = context.wrap_bio(self._received, self._sent)

    async def shake_hands(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
                self._received.write(await loop.sock_recv(self._client, BUFFER_BYTES))
            else:
                return await self._send()

    async def send(self, request: bytes) -> None:
        self._tls.write(request)
        await self._send()

    async def send_end(self) -> None:
        """Says by a close_notify that nothing more follows."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._send()

    async def _send(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self._client, self._sent.read())


@pytest.mark.parametrize("tls", [True], indirect=True)
@pytest.mark.parametrize("ends_after_s", [KEEP_ALIVE_S / 2, 2 * KEEP_ALIVE_S])
async def test_a_client_that_ends_its_tls_and_takes_nothing_is_cut(
    runner: HttpRunner, monkeypatch: pytest.MonkeyPatch, ends_after_s: float
) -> None:
    """The answer is smaller than what a transport under TLS keeps, so writing is never paused."""
    monkeypatch.setattr(connection, "WRITE_S", WRITE_S)
    with await connected(runner, b"") as client:
        speaking = TlsClient(client)
        await speaking.shake_hands()
        began_s = monotonic()
        await speaking.send(GET + b"\r\n")
        await asyncio.sleep(ends_after_s)
        await speaking.send_end()
        async with asyncio.timeout(PATIENCE_S):
            while open_count(runner):
                await asyncio.sleep(0.01)
    assert monotonic() - began_s >= WRITE_S * 0.8


async def test_a_connection_that_waits_to_be_closed_makes_room(runner: HttpRunner) -> None:
    with await connected(runner, GET + b"\r\n"):
        await asyncio.sleep(KEEP_ALIVE_S * 5)
        assert open_count(runner) == 1
        with await connected(runner, GET + b"\r\n") as second:
            async with asyncio.timeout(PATIENCE_S):
                assert await asyncio.get_running_loop().sock_recv(second, 8) == b"HTTP/1.1"
            assert open_count(runner) == 1


async def test_a_client_that_takes_its_answers_slowly_gets_them_all(
    runner: HttpRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_S", WRITE_S)
    began_s, count, received = monotonic(), 5, b""
    with await connected(runner, count * (GET + b"\r\n")) as client:
        async with asyncio.timeout(PATIENCE_S):
            while received.count(b"x" * 1000) < count * 30:
                await asyncio.sleep(0.1)
                received += await asyncio.get_running_loop().sock_recv(client, BUFFER_BYTES)
    assert received.count(b"200 OK") == count
    assert monotonic() - began_s > 2 * WRITE_S

"""Tests that clients that never finish a request are limited, displaced and soon disconnected."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import cast

import pytest
from aiohttp import ClientSession, TCPConnector, UnixConnector, web
from structlog.testing import capture_logs

from firmtrail import config
from firmtrail.application import app
from firmtrail.http import connection, descriptors, gate
from firmtrail.http.clients import Clients
from firmtrail.http.connection import HttpRunner
from firmtrail.http.gate import Bounds, Gate
from firmtrail.http.metrics import Metrics, ProcessState
from tests.patience import PATIENCE_S
from tests.service.site import Site

HALF_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HALF_BODY = (
    b"POST /api/v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b'Content-Length: 100\r\n\r\n{"email":'
)
HEAD_S = 0.5

type Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]
type Connect = Callable[..., Awaitable[Connected]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def bounds() -> Bounds:
    return Bounds(connections=20, per_address=10)


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture
async def runner(
    site: Site,
    metrics: Metrics,
    bounds: Bounds,
    clients: Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[HttpRunner]:
    monkeypatch.setattr(connection, "HEAD_S", HEAD_S)
    options = app.RUNNER_OPTIONS | {"lingering_time": 0.5}
    runner = HttpRunner(
        app.build(site.services), gate=Gate(bounds, clients, metrics), clients=clients, **options
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


@pytest.fixture
async def connect(runner: HttpRunner) -> AsyncIterator[Connect]:
    """Opens connections from the loopback address with this last number."""
    port, opened = runner.addresses[0][1], []

    async def connect(last: int = 1, first: bytes = b"") -> Connected:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(f"127.0.0.{last}", 0)
        )
        opened.append(writer)
        writer.write(first)
        return reader, writer

    yield connect
    for writer in opened:
        writer.transport.abort()


async def is_closed(reader: asyncio.StreamReader, within_s: float = PATIENCE_S) -> bool:
    """Returns whether the server ends the connection, whatever it sends before."""
    with contextlib.suppress(ConnectionError):
        try:
            async with asyncio.timeout(within_s):
                await reader.read()
        except TimeoutError:
            return False
    return True


async def is_answered(connected: Connected, request: bytes = WHOLE) -> bool:
    reader, writer = connected
    try:
        writer.write(request)
        async with asyncio.timeout(PATIENCE_S):
            return (await reader.readline()).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


@pytest.mark.parametrize("begun", [b"", b"G", HALF_HEAD], ids=["silent", "a byte", "half a head"])
async def test_a_head_that_does_not_come_ends_the_connection(
    connect: Connect, begun: bytes
) -> None:
    began = monotonic()
    reader, _ = await connect(first=begun)
    assert await is_closed(reader)
    assert monotonic() - began >= HEAD_S * 0.8


async def test_a_trickled_head_gets_no_more_time(connect: Connect) -> None:
    reader, writer = await connect(first=HALF_HEAD)

    async def trickle() -> None:
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(HEAD_S / 10)

    trickling = asyncio.create_task(trickle())
    assert await is_closed(reader)
    trickling.cancel()


@pytest.mark.parametrize(
    "begun", [HALF_HEAD, WHOLE + HALF_HEAD], ids=["after an answer", "pipelined"]
)
async def test_a_later_head_is_limited_from_its_first_byte(connect: Connect, begun: bytes) -> None:
    reader, writer = await connect()
    assert await is_answered((reader, writer))
    await asyncio.sleep(HEAD_S * 1.5)  # idle for longer than a head may take: it stays open
    assert not await is_closed(reader, 0.1)
    writer.write(begun)
    assert await is_closed(reader)


async def test_an_idle_connection_stays(connect: Connect) -> None:
    reader, writer = await connect()
    for _ in range(3):
        assert await is_answered((reader, writer))
        await asyncio.sleep(HEAD_S * 1.2)
        await asyncio.wait_for(reader.readuntil(b'"alive"}'), PATIENCE_S)


LOGIN = b'{"email":"a@b.example","password":"wrong"}'
LOGIN_HEAD = HALF_BODY.partition(b"Content-Length")[0] + b"Content-Length: %d\r\n\r\n" % len(LOGIN)


@pytest.mark.parametrize(
    "parts",
    [[LOGIN_HEAD + LOGIN], [LOGIN_HEAD, LOGIN], [LOGIN_HEAD, LOGIN[:9], LOGIN[9:]]],
    ids=["one part", "head and body", "a body in parts"],
)
async def test_a_connection_that_has_sent_a_body_stays(
    connect: Connect, parts: list[bytes]
) -> None:
    reader, writer = await connect()
    for _ in range(2):
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(PATIENCE_S):
            assert (await reader.readline()).startswith(b"HTTP/1.1 401")
            await reader.readuntil(b'"errors":[]}')
        assert not await is_closed(reader, HEAD_S * 2)


async def test_half_heads_from_one_address_are_displaced_by_later_ones(connect: Connect) -> None:
    flood = [await connect(7, HALF_HEAD) for _ in range(100)]
    assert await is_answered(await connect(7))
    assert await is_answered(await connect(8))
    closed = [await is_closed(reader, 0.01) for reader, _ in flood]
    assert sum(closed) >= 90


@pytest.mark.parametrize(
    "begun", [b"", HALF_HEAD, WHOLE, HALF_BODY], ids=["silent", "half heads", "idle", "half bodies"]
)
async def test_a_flood_from_many_addresses_locks_nobody_out(connect: Connect, begun: bytes) -> None:
    for n in range(100):
        await connect(10 + n, begun)
        await asyncio.sleep(0)
    assert await is_answered(await connect(2))


async def test_a_running_request_is_not_displaced(site: Site, connect: Connect) -> None:
    poll = (
        f"GET /api/v1/projects/acme/devices/d1/update?wait=5 HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {site.credentials['device']}\r\nIf-None-Match: {{}}\r\n\r\n"
    )
    first = await connect(first=poll.format('"x"').encode())
    head = (await first[0].readuntil(b"\r\n\r\n")).decode()
    [etag] = [line[6:] for line in head.split("\r\n") if line.startswith("ETag: ")]
    waiting = []
    for last in (1, 1, 2, 2):
        waiting.append(await connect(last, poll.format(etag).encode()))
        await asyncio.sleep(0.05)
    for _ in range(50):
        await connect(1, HALF_HEAD)
    assert not any([await is_closed(reader, 0.01) for reader, _ in waiting[:2]])


def scraped(metrics: Metrics) -> str:
    present = ProcessState(
        ready=True, refused_logs=0, publishing=True, checkpoints_up=None, artifacts_up=None
    )
    return metrics.text(present).decode()


@pytest.mark.parametrize("bounds", [Bounds(connections=4, per_address=2)])
async def test_at_the_limit_of_an_address_a_connection_is_refused_if_all_are_at_work(
    site: Site, connect: Connect, metrics: Metrics
) -> None:
    upload = (
        f"PUT /api/v1/projects/acme/releases/m/1.0.0/artifacts/fw HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {site.credentials['operator']}\r\nContent-Length: 9\r\n\r\nx"
    )
    body = {"model": "m", "version": "1.0.0"}
    await site.call("POST", "/api/v1/projects/acme/releases", caller="operator", json=body)
    with capture_logs() as logged:
        working = [await connect(1, upload.encode()) for _ in range(2)]
        await asyncio.sleep(0.3)
        refused = [await connect(1) for _ in range(5)]
        assert all([await is_closed(reader) for reader, _ in refused])
        assert await is_answered(await connect(2))
    assert not any([await is_closed(reader, 0.05) for reader, _ in working])
    lines = [line for line in logged if line["event"] == "connections refused"]
    assert len(lines) == 1
    assert lines[0]["most_from"] == "127.0.0.1"
    assert 'firmtrail_closed_connections_total{reason="refused"} 5.0' in scraped(metrics)


@pytest.mark.parametrize("clients", [Clients()])
async def test_refusals_take_one_line_a_minute(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 60)
    monkeypatch.setattr(gate, "LINE_EVERY_S", 0.5)
    began_s = monotonic()
    with capture_logs() as logged:
        for _ in range(60):
            await connect(1, HALF_HEAD)
        await asyncio.sleep(1)
    lines = [line for line in logged if line["event"] == "connections refused"]
    assert 2 <= len(lines) <= 1 + (monotonic() - began_s) / 0.5
    assert sum(line["displaced"] for line in lines) == 50


async def test_the_bounds_leave_a_reserve_of_descriptors() -> None:
    found = gate.bounds()
    assert 1 <= found.per_address <= found.connections < descriptors.limit()


async def test_a_refused_body_does_not_linger(connect: Connect) -> None:
    request = (
        b"POST /api/v1/projects/acme/reports HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n"
    )
    reader, writer = await connect(first=request)
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"x" * 1000)
                await asyncio.sleep(0.05)

    sending = asyncio.create_task(send())
    assert await is_closed(reader)
    sending.cancel()


async def test_a_client_that_takes_no_answer_is_cut(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "WRITE_S", 0.5)
    reader, writer = await connect()
    transport = cast(asyncio.Transport, writer.transport)
    transport.pause_reading()
    for _ in range(200):
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(2)
    transport.resume_reading()
    assert await is_closed(reader)


async def test_the_operators_socket_is_open_while_tcp_is_flooded(
    runner: HttpRunner, connect: Connect, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = str(tmp_path_factory.mktemp("s") / "s")
    await web.UnixSite(runner, path).start()
    for n in range(40):
        await connect(1 + n % 20, HALF_HEAD)
    async with (
        ClientSession(connector=UnixConnector(path)) as session,
        session.get("http://x/healthz") as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("clients", [Clients(trusted=config.networks("127.0.0.5"))])
async def test_a_trusted_proxy_is_not_bounded_as_one_address(connect: Connect) -> None:
    many = [await connect(5) for _ in range(15)]
    assert all([await is_answered(each) for each in many])
    assert not any([await is_closed(reader, 0.01) for reader, _ in many[:5]])


class TestTLS:
    """Tests the same limits before and during the TLS handshake."""

    @pytest.fixture
    async def runner(
        self,
        site: Site,
        metrics: Metrics,
        bounds: Bounds,
        clients: Clients,
        tls: ssl.SSLContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> AsyncIterator[HttpRunner]:
        monkeypatch.setattr(connection, "HEAD_S", HEAD_S)
        gate = Gate(bounds, clients, metrics)
        served = app.build(site.services)
        runner = HttpRunner(served, gate=gate, clients=clients, tls=tls, **app.RUNNER_OPTIONS)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner
        await runner.cleanup()

    @pytest.fixture
    def tls(self, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
        folder = tmp_path_factory.mktemp("tls")
        certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
        curve = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        command = ["openssl", "req", "-x509", "-newkey", *curve, "-nodes", "-subj", "/CN=x"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        return context

    async def test_https_is_served(self, runner: HttpRunner) -> None:
        url = f"https://127.0.0.1:{runner.addresses[0][1]}/healthz"
        async with ClientSession(connector=TCPConnector(ssl=False)) as session:
            for _ in range(3):
                async with session.get(url) as answer:
                    assert (answer.status, await answer.json()) == (200, {"status": "alive"})

    @pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01"], ids=["silent", "half a hello"])
    async def test_a_handshake_that_does_not_come_ends_the_connection(
        self, connect: Connect, begun: bytes
    ) -> None:
        reader, _ = await connect(first=begun)
        assert await is_closed(reader)

    async def test_silent_connections_are_displaced_before_the_handshake(
        self, runner: HttpRunner, connect: Connect
    ) -> None:
        flood = [await connect(7) for _ in range(100)]
        await self.test_https_is_served(runner)
        assert sum([await is_closed(reader, 0.01) for reader, _ in flood]) >= 80

    async def test_a_head_that_does_not_come_ends_a_tls_connection(
        self, runner: HttpRunner
    ) -> None:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", runner.addresses[0][1], ssl=trusting
        )
        writer.write(HALF_HEAD)
        assert await is_closed(reader)
        writer.transport.abort()

"""Tests that requests outside all routes are refused with a problem, like all others."""

import asyncio
from collections.abc import Coroutine

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from firmtrail.http import connection, whole_answer
from firmtrail.http.clients import Clients
from firmtrail.http.connection import HttpRunner
from firmtrail.http.gate import Gate, bounds
from firmtrail.http.metrics import Metrics
from tests.patience import PATIENCE_S
from tests.service.routes import assert_is_problem
from tests.service.site import Address, D, Site
from tests.serving import Answer

HOST = b"Host: x\r\n"
CHUNKED = b"POST /api/v1/login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = {
    "no HTTP": (b"\x16\x03\x01\x00\r\n\r\n", 400, "malformed"),
    "no method": (b"G@T / HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
    "no URL": (b"GET http://[x/ HTTP/1.1\r\n" + HOST + b"\r\n", 400, "malformed"),
    "no path": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404, "not_found"),
    "a header without a colon": (b"GET / HTTP/1.1\r\nx\r\n" + HOST + b"\r\n", 400, "malformed"),
    "a target too long": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n", 400, "malformed"),
    "a header too long": (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n", 400, "malformed"),
    "no chunk": (CHUNKED + b"zz\r\n{}\r\n", 400, "malformed"),
    "an expectation": (
        b"POST / HTTP/1.1\r\nExpect: x\r\n" + HOST + b"\r\n",
        417,
        "expectation_failed",
    ),
}


async def send(address: Address, request: bytes) -> Answer:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    async with asyncio.timeout(PATIENCE_S):
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        body = await reader.readexactly(int(headers["Content-Length"]))
    writer.close()
    return Answer(int(status.split(" ")[1]), headers, body)


async def test_a_request_that_reaches_no_route_gets_a_problem(address: Address) -> None:
    for name, (request, status, code) in REFUSED.items():
        assert assert_is_problem(await send(address, request), status)["code"] == code, name
    answer = await send(address, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (answer.status, answer.json) == (200, {"status": "alive"})


async def head_of_next(reader: asyncio.StreamReader) -> dict[str, str]:
    """Reads an answer, and returns its head without what differs between two answers."""
    async with asyncio.timeout(PATIENCE_S):
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        head = dict(line.split(": ", 1) for line in lines if line)
        await reader.readexactly(int(head.get("Content-Length", 0)))
    assert head.pop("Date").endswith("GMT")
    assert head.pop("X-Request-Id")
    return head | {"status": status}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lists the statuses of the answers that were sent in one step."""
    statuses = []

    def sending(
        answer: web.Response, request: web.BaseRequest
    ) -> Coroutine[None, None, whole_answer.Finished]:
        statuses.append(answer.status)
        return whole_answer.send(answer, request)

    monkeypatch.setattr(connection, "send", sending)
    return statuses


async def test_an_answer_sent_in_one_step_has_the_head_that_aiohttp_makes(
    site: Site, address: Address, sent: list[int]
) -> None:
    """aiohttp makes the head of an answer after which the connection ends."""
    caller = f"Host: x\r\nAuthorization: Bearer {site.credentials['viewer']}\r\n"
    etag = (await site.call("GET", D, caller="viewer")).headers["ETag"]
    for path, more, status in (
        (D, "", "200 OK"),
        (D, f"If-None-Match: {etag}\r\n", "304 Not Modified"),
        (f"{D}9", "", "404 Not Found"),
    ):
        reader, writer = await asyncio.open_connection(*address)
        request = f"GET {path} HTTP/1.1\r\n{caller}{more}".encode()
        writer.write(2 * (request + b"\r\n") + request + b"Connection: close\r\n\r\n")
        first, second, last = [await head_of_next(reader) for _ in range(3)]
        assert last.pop("Connection") == "close"
        assert (first, second) == (last, last)
        assert last["status"] == f"HTTP/1.1 {status}"
        assert sent == 2 * [int(status.split(" ")[0])]
        sent.clear()
        writer.close()


async def test_an_answer_in_another_version_of_http_is_not_sent_in_one_step(
    address: Address, sent: list[int]
) -> None:
    reader, writer = await asyncio.open_connection(*address)
    request = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n"
    writer.write(2 * request)
    for _ in range(2):
        head = await head_of_next(reader)
        assert (head["status"], head["Connection"]) == ("HTTP/1.0 200 OK", "keep-alive")
    assert sent == []
    writer.close()


async def raise_error(_: web.Request) -> web.Response:
    raise RuntimeError("broken")


async def test_a_refusal_and_a_bug_are_each_logged_once() -> None:
    bare = web.Application()
    bare.router.add_get("/broken", raise_error)
    clients = Clients()
    gate = Gate(bounds(), clients, Metrics())
    runner = HttpRunner(bare, gate=gate, clients=clients, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    for path, status, event in (
        (b"/broken", 500, "bug"),
        (b"/nothing", 404, "refused by the connection"),
    ):
        with capture_logs() as logged:
            answer = await send(
                runner.addresses[0], b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n"
            )
        assert_is_problem(answer, status)
        # Another test's service may still log what its followers do.
        assert [each["event"] for each in logged if "follower" not in each] == [event]
    await runner.cleanup()

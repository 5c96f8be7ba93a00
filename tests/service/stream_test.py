"""Tests that a client never sees a clean end of an answer that breaks off."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from http import HTTPMethod

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.database.database import Unavailable
from firmtrail.http import respond
from firmtrail.http.call import AnyCall, Services
from firmtrail.http.callers import PUBLIC
from firmtrail.http.clients import CLIENTS
from firmtrail.http.endpoint import endpoint
from firmtrail.http.route import Handler, Route
from tests.patience import PATIENCE_S
from tests.service.routes import assert_is_problem
from tests.service.site import Site
from tests.serving import Answer, with_settings


async def chunks(good: int) -> AsyncGenerator[bytes]:
    for _ in range(good):
        yield b"a line\n"
    raise Unavailable("the database is away")


def broken_after(site: Site, good: int) -> TestServer:
    async def handler(call: AnyCall) -> web.StreamResponse:
        return await respond.stream(call, respond.NDJSON, chunks(good), {})

    return TestServer(app_of(handler, site.services))


def app_of(handler: Handler, services: Services) -> web.Application:
    """Returns an application of one route."""
    route = Route(
        method=HTTPMethod.GET,
        path="/",
        handler=handler,
        access=PUBLIC,
        summary="",
        answers={200: respond.NDJSON},
    )
    app = web.Application()
    app[CLIENTS] = services.clients
    app.router.add_route("GET", "/", endpoint(route, services))
    return app


async def test_a_failure_midway_breaks_the_connection(site: Site) -> None:
    async with TestClient(broken_after(site, good=3)) as client, client.get("/") as response:
        assert response.status == 200
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_a_failure_before_the_first_chunk_is_a_problem(site: Site) -> None:
    async with TestClient(broken_after(site, good=0)) as client, client.get("/") as response:
        answer = Answer(response.status, response.headers, await response.read())
        assert_is_problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0


LAST_BYTES = 60 * 1024
"""So few bytes that the server does not wait when it writes them, but when the answer ends."""


@pytest.mark.parametrize("size", [LAST_BYTES, 1024 * 1024])
async def test_a_client_that_takes_nothing_is_cut_off_up_to_the_last_byte(
    site: Site, size: int
) -> None:
    cut_off = asyncio.Event()

    async def handler(call: AnyCall) -> web.StreamResponse:
        transport = call.request.transport
        assert transport is not None
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transport.set_write_buffer_limits(high=1024)
        try:
            return await respond.stream(call, respond.NDJSON, one_chunk(size), {})
        except ConnectionAbortedError:
            cut_off.set()
            raise

    services = with_settings(site.services, write_timeout_s=0.2)
    async with TestServer(app_of(handler, services)) as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", server.port))
            await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                await cut_off.wait()


async def one_chunk(size: int) -> AsyncGenerator[bytes]:
    yield b"x" * size

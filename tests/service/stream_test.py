"""What a client sees of an answer that breaks off: never a clean end."""

from collections.abc import AsyncIterator
from http import HTTPMethod

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.eventstore.database import Unavailable
from firmtrail.http import respond
from firmtrail.http.call import AnyCall
from firmtrail.http.endpoint import endpoint
from firmtrail.http.kinds import PUBLIC
from firmtrail.http.route import Route
from tests.service.routes_test import assert_is_problem
from tests.service.site import Answer, Site


async def chunks(good: int) -> AsyncIterator[bytes]:
    for _ in range(good):
        yield b"a line\n"
    raise Unavailable("the database is away")


def broken_after(site: Site, good: int) -> TestServer:
    async def handler(call: AnyCall) -> web.StreamResponse:
        return await respond.stream(call, respond.NDJSON, chunks(good), {})

    route = Route(
        method=HTTPMethod.GET,
        path="/",
        handler=handler,
        access=PUBLIC,
        group="",
        summary="",
        answers={200: respond.NDJSON},
    )
    app = web.Application()
    app.router.add_route("GET", "/", endpoint(route, site.services))
    return TestServer(app)


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

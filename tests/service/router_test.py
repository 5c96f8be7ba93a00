"""Checks that the router finds the same routes and parameters as aiohttp's own."""

import re
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiohttp import hdrs, web
from aiohttp.test_utils import make_mocked_request

from firmtrail.application import routes
from firmtrail.application.router import Router
from firmtrail.config import PROTOCOLS

EVERYTHING = (*routes.served(PROTOCOLS, has_seed=True, is_demo=True), *routes.PAGES)
PATHS = [
    *{each.path.replace("{tile}", "{tile:.+}"): None for each in EVERYTHING},
    "/console/{rest:.*}",
    "/{rest:.*}",
]
TEXTS = ("devices", "", "a%2Fb%25", "a%7Bb", "a.MD5SUM", ".MD5SUM", "a%0Ab", "%C3%A4")
"""Texts of parameters that could be taken for something else."""


def _handler(path: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_request: web.Request) -> web.StreamResponse:
        raise AssertionError(path)

    return handle


HANDLERS = {path: _handler(path) for path in PATHS}


def _fill(resource: web.Resource) -> None:
    resource.add_route("GET", HANDLERS[resource.canonical])
    resource.add_route(hdrs.METH_ANY, HANDLERS[resource.canonical])


def _filled() -> web.UrlDispatcher:
    router = web.UrlDispatcher()
    for path, handler in HANDLERS.items():
        resource = router.add_resource(path)
        resource.add_route("GET", handler)
        resource.add_route(hdrs.METH_ANY, handler)
    router.freeze()
    return router


OURS, THEIRS = Router(dict.fromkeys(PATHS, _fill)), _filled()


def _targets(path: str) -> Iterator[str]:
    """Yields targets that are like the path, or nearly."""
    plain = _filled_in(path, "x1")
    yield from (plain, f"{plain}/", f"{plain}/more", plain.rpartition("/")[0])
    yield from (_filled_in(path, text) for text in TEXTS)


def _filled_in(path: str, text: str) -> str:
    """Returns the path with this text for each of its parameters."""
    return re.sub(r"{[^}]+}", lambda _: text, path)


async def _check(target: str) -> None:
    """Fails if the two find another handler or other parameters."""
    request = make_mocked_request("GET", target)
    assert await _found(OURS, request) == await _found(THEIRS, request), target


async def _found(
    router: web.UrlDispatcher, request: web.Request
) -> tuple[object, dict[str, str]] | None:
    """Returns the handler and the parameters; None: there is no such path."""
    match = await router.resolve(request)
    return None if match.http_exception else (match.handler, {**match})


@pytest.mark.parametrize("path", PATHS)
async def test_it_finds_what_aiohttp_finds(path: str) -> None:
    for target in dict.fromkeys(_targets(path)):
        await _check(target)


@pytest.mark.parametrize("target", ["/", "//", "/api", "/api/v1/projects/x//devices", "/a%0Ab"])
async def test_it_finds_nothing_else(target: str) -> None:
    await _check(target)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_it_finds_the_route_of_the_method_or_that_of_all_others(method: str) -> None:
    match = await OURS.resolve(make_mocked_request(method, "/readyz"))
    assert match.route.method == ("GET" if method == "GET" else hdrs.METH_ANY)

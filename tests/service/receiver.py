"""Receives the deliveries of webhooks for tests, on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from tests.patience import PATIENCE_S
from tests.service.site import P, Site


class Delivered(NamedTuple):
    """What a receiver got."""

    headers: dict[str, str]
    body: bytes

    @property
    def position(self) -> int:
        return int(self.headers["Firmtrail-Position"])

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Receiver:
    """A receiver of webhooks that answers as `answers` says: 200 when that is empty."""

    def __init__(self) -> None:
        self.got: list[Delivered] = []
        self.answers: list[tuple[int, str]] = []
        self.headers: dict[str, str] = {}
        """The headers of the answers in `answers`."""
        self.url = ""
        self.may_answer = asyncio.Event()
        """Cleared, it makes every request wait."""
        self.may_answer.set()
        self.asked = 0
        """Counts the requests, answered or not."""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked += 1
        await self.may_answer.wait()
        found = Delivered(dict(request.headers), await request.read())
        if self.answers:
            status, text = self.answers.pop(0)
            return web.Response(status=status, text=text, headers=self.headers)
        self.got.append(found)
        return web.Response(text="thanks")

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.asked < count:
                await asyncio.sleep(0.01)

    async def until(self, count: int) -> list[Delivered]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.got) < count:
                await asyncio.sleep(0.01)
        return self.got


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Runs a receiver until the block ends."""
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    host, port = runner.addresses[0]
    found.url = f"http://{host}:{port}/hook"
    yield found
    await runner.cleanup()


async def add(site: Site, receiver: Receiver, **members: Any) -> Any:
    body = {"url": receiver.url, **members}
    answer = await site.call("POST", f"{P}/webhooks", caller="admin", json=body)
    assert answer.status == 201, answer.body
    return answer.json

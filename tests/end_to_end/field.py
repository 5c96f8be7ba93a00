"""Serves the project acme to real clients of devices, over a network that can break."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from tests.databases import migrate_now
from tests.end_to_end.conftest import Serve
from tests.end_to_end.network import Network
from tests.end_to_end.processes import Server
from tests.end_to_end.site import MODEL, P, Site, get, new_site, post
from tests.end_to_end.swu import Signer
from tests.serving import Answer

WAIT_S_MAX = 60
PAYLOAD = bytes(range(256)) * 1_000


@dataclass
class Field:
    """Holds a server with the project acme, its devices, and somebody who steers them."""

    server: Server
    site: Site
    session: ClientSession
    folder: Path

    @cached_property
    def signer(self) -> Signer:
        return Signer(self.folder)

    @property
    def installed(self) -> Path:
        """Returns the file that an install writes."""
        return self.folder / "installed"

    async def steer(self, path: str, **body: Any) -> Answer:
        answer = await post(self.session, f"{self.server.url}{P}/{path}", self.site.admin, body)
        assert answer.status in {200, 201}, answer.body
        return answer

    async def read(self, path: str) -> Any:
        return (await get(self.session, f"{self.server.url}{P}/{path}", self.site.admin)).json

    async def put(self, version: str, content: bytes) -> None:
        """Adds a release with one artifact."""
        await self.steer("releases", model=MODEL, version=version)
        url = f"{self.server.url}{P}/releases/{MODEL}/{version}/artifacts/image.swu"
        headers = {"Authorization": f"Bearer {self.site.admin}"}
        async with self.session.put(url, data=content, headers=headers) as response:
            assert response.status == 201

    async def release(self, version: str) -> bytes:
        """Adds a release with an image, and returns what its install writes."""
        payload = version.encode() + PAYLOAD
        await self.put(version, self.signer.image(version, payload, self.installed))
        return payload

    async def roll_out(self, version: str) -> str:
        wanted = {"model": MODEL, "version": version, "percent": 100}
        rollout: str = (await self.steer("rollouts", **wanted)).json["id"]
        return rollout

    async def said(self, device: str) -> list[tuple[str, str]]:
        """Returns what a device reported, (version, status), the oldest first."""
        items = (await self.read(f"devices/{device}/history?progress=true"))["items"]
        return [(each["version"], each["status"]) for each in reversed(items)]

    async def log_size(self) -> int:
        return (await get(self.session, f"{self.server.url}{P}/devices", self.site.admin)).log_size

    async def is_ended(self, device: str, ordinal: int) -> bool:
        """Returns whether an offer ended without an outcome."""
        url = f"{self.server.url}{P}/events?stream=device/{device}&type=OfferEnded"
        ended = (await get(self.session, url, self.site.admin)).body.splitlines()
        return any(f'"ordinal":{ordinal}'.encode() in each for each in ended)

    async def failure(self, device: str) -> str:
        """Returns the detail of the device's newest failure."""
        items = (await self.read(f"devices/{device}/history?progress=true"))["items"]
        detail: str = next(each for each in items if each["status"] == "failed")["detail"]
        return detail

    async def until(self, device: str, *report: str) -> None:
        async def is_said() -> bool:
            return report in await self.said(device)

        await wait_for(is_said, f"{device} says {report}")


async def wait_for(is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    """Waits until something is so; fails after `WAIT_S_MAX`."""
    for _ in range(WAIT_S_MAX * 10):
        if await is_so():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {WAIT_S_MAX} s: {what}")


@pytest.fixture
async def field(serve: Serve, tmp_path: Path) -> AsyncIterator[Field]:
    database = f"sqlite:///{tmp_path / 'a.db'}"
    migrate_now(database)
    site = await new_site(database, ["d1", "d2"])
    async with ClientSession() as session:
        field = Field(serve(database), site, session, tmp_path)
        url = f"{field.server.url}{P}"
        headers = {"Authorization": f"Bearer {site.admin}"}
        async with session.patch(url, json={"poll_after_s": 1}, headers=headers) as response:
            assert response.status == 200
        for device in ("d1", "d2"):
            await field.steer(f"devices/{device}/reports", version="1.0.0")
        yield field


@pytest.fixture
async def network(field: Field) -> AsyncIterator[Network]:
    port = urlsplit(field.server.url).port
    assert port is not None
    async with Network(port).open() as network:
        yield network

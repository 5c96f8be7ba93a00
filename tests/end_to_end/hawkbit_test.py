"""Updates devices whose clients are those of the field: Debian's SWUpdate, and RAUC's from PyPI."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from rauc_hawkbit.ddi.client import APIError, ConfigStatusExecution, ConfigStatusResult, DDIClient
from rauc_hawkbit.ddi.deployment_base import DeploymentStatusExecution, DeploymentStatusResult

from tests.databases import migrate_now
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import Server
from tests.end_to_end.site import MODEL, Answer, P, Site, get, new_site, post
from tests.end_to_end.swupdate import Network, Signer, Swupdate

WAIT_S_MAX = 60
PAYLOAD = bytes(range(256)) * 1_000


@dataclass
class Field:
    """Holds a server with the project acme, its devices, and somebody who steers them."""

    server: Server
    site: Site
    session: ClientSession
    folder: Path
    signer: Signer

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
    signer = Signer(tmp_path)
    signer.make_key()
    async with ClientSession() as session:
        field = Field(serve(database), site, session, tmp_path, signer)
        url = f"{field.server.url}{P}"
        headers = {"Authorization": f"Bearer {site.admin}"}
        async with session.patch(url, json={"poll_after_s": 1}, headers=headers) as response:
            assert response.status == 200
        for device in ("d1", "d2"):
            await field.steer(f"devices/{device}/reports", version="1.0.0")
        yield field


@pytest.mark.timeout(300)
async def test_swupdate_installs_confirms_fails_cancels_and_goes_back(field: Field) -> None:
    async with Network().open() as network:
        network.port_behind = urlsplit(field.server.url).port
        d1 = Swupdate(
            field.folder, field.signer.certificate, network.url, "d1", field.site.secrets["d1"]
        )
        await installs_over_a_broken_network(field, network, d1)
        await is_confirmed_after_a_pause(field, d1)
        await fails_with_its_log(field, d1)
        await cancels(field, d1)
        await goes_back(field, d1)
    statuses = [status for _, status in await field.said("d1")]
    assert statuses.count("installed") == 3  # 1.0.0 at first, 1.1.0, and 1.0.0 again


async def installs_over_a_broken_network(field: Field, network: Network, d1: Swupdate) -> None:
    """The server is away at first, and the download breaks off once."""
    payload = await field.release("1.1.0")
    port, network.port_behind = network.port_behind, None
    network.cut_after_bytes = len(payload) // 2
    async with d1.running():
        await asyncio.sleep(2)
        network.port_behind = port
        rollout = await field.roll_out("1.1.0")
        await field.until("d1", "1.1.0", "rebooting")
    assert network.cuts == 1
    assert field.installed.read_bytes() == payload
    await field.steer(f"rollouts/{rollout}/pause", reason="a look")


async def is_confirmed_after_a_pause(field: Field, d1: Swupdate) -> None:
    async with d1.running("-c", "2"):
        await field.until("d1", "1.1.0", "installed")
    statuses = [status for version, status in await field.said("d1") if version == "1.1.0"]
    assert statuses == ["downloading", "installing", "rebooting", "installed"]


async def fails_with_its_log(field: Field, d1: Swupdate) -> None:
    await field.put("1.2.0", b"no image" * 1_000)
    rollout = await field.roll_out("1.2.0")
    async with d1.running():
        await field.until("d1", "1.2.0", "failed")
        await field.steer(f"rollouts/{rollout}/abort", reason="no image")
    items = (await field.read("devices/d1/history?progress=true"))["items"]
    failed = next(each for each in items if each["status"] == "failed")
    assert failed["detail"].endswith("No suitable .swu image found")


async def cancels(field: Field, d1: Swupdate) -> None:
    """The offer reaches the device only after it was paused."""
    await field.release("1.3.0")
    rollout = await field.roll_out("1.3.0")
    update = f"{field.server.url}{P}/devices/d1/update"
    offered = await get(field.session, update, field.site.secrets["d1"])
    assert offered.json["version"] == "1.3.0"
    await field.steer(f"rollouts/{rollout}/pause", reason="not yet")

    async def is_cancelled() -> bool:
        url = f"{field.server.url}{P}/events?stream=device/d1&type=OfferEnded"
        ended = (await get(field.session, url, field.site.admin)).body.splitlines()
        return any(f'"ordinal":{offered.json["offer"]}'.encode() in each for each in ended)

    async with d1.running():
        await wait_for(is_cancelled, "the action is cancelled")
    await field.steer(f"rollouts/{rollout}/abort", reason="never")


async def goes_back(field: Field, d1: Swupdate) -> None:
    payload = await field.release("1.0.0")
    bad = {"bad_version": "1.1.0", "model": MODEL, "to": "previous", "reason": "bad"}
    await field.steer("rollbacks", **bad)
    async with d1.running():
        await field.until("d1", "1.0.0", "rebooting")
    assert field.installed.read_bytes() == payload
    async with d1.running("-c", "2"):

        async def is_back() -> bool:
            return bool((await field.read("devices/d1"))["version"] == "1.0.0")

        await wait_for(is_back, "d1 runs 1.0.0 again")


def rauc(field: Field, secret: str, device: str = "d2") -> DDIClient:
    host = urlsplit(field.server.url).netloc
    return DDIClient(field.session, host, False, secret, "DEFAULT", device)  # noqa: FBT003


async def say(action: Any, how: str, result: str, *details: str, **progress: int) -> None:
    status = DeploymentStatusExecution[how], DeploymentStatusResult[result]
    await action.feedback(*status, details, **progress)


async def test_raucs_client_says_what_it_is_and_installs(field: Field) -> None:
    await field.put("1.1.0", b"a bundle" * 1_000)
    d2 = rauc(field, field.site.secrets["d2"])
    with pytest.raises(APIError, match="401"):
        await rauc(field, "wrong")()
    asked = await d2()
    assert set(asked["_links"]) == {"configData"}
    done = ConfigStatusExecution.closed, ConfigStatusResult.success
    await d2.configData(*done, board="b7", version="1.0.0")
    assert "_links" not in await d2()
    await field.roll_out("1.1.0")
    link = urlsplit((await d2())["_links"]["deploymentBase"]["href"])
    action = d2.deploymentBase[link.path.rpartition("/")[2]]
    described = await action(link.query.partition("=")[2])
    [file] = described["deployment"]["chunks"][0]["artifacts"]
    loaded = field.folder / "bundle"
    checked = await d2.get_binary(file["_links"]["download"]["href"], str(loaded))
    assert checked == file["hashes"]["md5"]
    assert loaded.read_bytes() == b"a bundle" * 1_000
    for percentage in range(0, 100, 5):
        await say(action, "proceeding", "none", f"{percentage} %", percentage=percentage)
    await say(action, "closed", "success", "Software bundle installed successfully.")
    statuses = [status for version, status in await field.said("d2") if version == "1.1.0"]
    assert statuses == ["installing", "installed"]
    assert "deploymentBase" not in (await d2())["_links"]

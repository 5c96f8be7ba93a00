"""Debian's mender-client is rejected or accepted, installs updates for real, over a network that
breaks off too, is confirmed after a restart, fails with its log, is cancelled, and goes back;
mender-cli publishes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from tests.databases import migrate_now
from tests.end_to_end.command import in_process, new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.mender_client import MenderClient, artifact, impatient, publisher
from tests.end_to_end.network import Network
from tests.end_to_end.site import P, get, post

WAIT_S = 90
BOSS = ("boss@example.org", "--project", "acme")
PASSWORD = "s3cret-enough"
REFUSED = "authentication request rejected"


@dataclass
class Fleet:
    """Talks to the server as the admin of its project."""

    session: ClientSession
    url: str
    admin: str
    token: str
    """Lets devices join."""
    folder: Path

    def client(self, name: str, **options: Any) -> MenderClient:
        return MenderClient(self.folder / name, name, self.token, **options)

    async def device(self) -> dict[str, Any]:
        answer = await get(self.session, f"{self.url}{P}/devices/one", self.admin)
        shown: dict[str, Any] = answer.json if answer.status == 200 else {"version": None}
        return shown

    async def waiting(self) -> set[str]:
        """Returns the devices that wait to be accepted, with a key."""
        path = f"{self.url}{P}/devices?pending=true"
        items = (await get(self.session, path, self.admin)).json["items"]
        return {each["device"] for each in items if each["pending"] and each["offered_key"]}

    async def change_project(self, **settings: Any) -> None:
        headers = {"Authorization": f"Bearer {self.admin}"}
        async with self.session.patch(f"{self.url}{P}", json=settings, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def runs(self, version: str) -> bool:
        return bool((await self.device())["version"] == version)

    async def history(self) -> list[dict[str, Any]]:
        path = f"{self.url}{P}/devices/one/history?progress=true"
        items: list[dict[str, Any]] = (await get(self.session, path, self.admin)).json["items"]
        return items

    async def said(self, version: str) -> list[str]:
        """Returns the statuses of a version, the oldest first."""
        return [each["status"] for each in await self.history() if each["version"] == version][::-1]

    async def is_said(self, version: str, status: str) -> bool:
        return status in await self.said(version)

    async def has_failed_with(self, text: str) -> bool:
        return any(text in (each["detail"] or "") for each in await self.history())

    async def log_size(self) -> int:
        return (await get(self.session, f"{self.url}{P}/devices", self.admin)).log_size

    async def has_cancelled(self) -> bool:
        path = f"{self.url}{P}/events?stream=device/one&type=OfferEnded"
        return b'"cancelled"' in (await get(self.session, path, self.admin)).body

    async def post(self, path: str, **body: Any) -> Any:
        answer = await post(self.session, f"{self.url}{P}/{path}", self.admin, body)
        assert answer.status < 300, answer.body
        return answer.json

    async def roll_out(self, version: str) -> str:
        wanted = {"version": version, "model": "m", "percent": 100}
        rollout: str = (await self.post("rollouts", **wanted))["id"]
        return rollout

    def publish(self, **payloads: bytes) -> None:
        """Logs in and publishes an artifact for each version."""
        login = ("login", "--username", BOSS[0], "--password", PASSWORD)
        publisher(self.url, self.folder, *login)
        for name, payload in payloads.items():
            file = artifact(self.folder, f"m-{name.replace('_', '.')[1:]}", payload)
            publisher(self.url, self.folder, "artifacts", "upload", "--no-progress", str(file))


async def until(client: MenderClient, what: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await what():
        assert time.monotonic() < deadline, client.log.read_text()[-6_000:]
        await asyncio.sleep(0.2)


async def until_says(client: MenderClient, text: str) -> None:
    async def is_said() -> bool:
        return client.says(text)

    await until(client, is_said)


class Started(NamedTuple):
    """Holds a server, a token of an admin, and one that lets devices join."""

    url: str
    admin: str
    token: str


@pytest.fixture
def started(serve: Serve, tmp_path: Path) -> Started:
    database = f"sqlite:///{tmp_path}/a.db"
    migrate_now(database)
    admin = new_project(database)
    role = ("--role", "admin", "--password-stdin")
    assert in_process(database, "user", "add", *BOSS, *role, stdin=PASSWORD).exit_code == 0
    joins = ("--role", "gateway", "--registers", "--model", "m")
    token = in_process(database, "token", "create", *BOSS, *joins).out.strip()
    return Started(serve(database).url, admin, token)


@pytest.fixture
async def fleet(started: Started, tmp_path: Path) -> AsyncIterator[Fleet]:
    async with ClientSession() as session:
        yield Fleet(session, *started, tmp_path)


async def test_a_mender_client_joins_updates_fails_and_goes_back(fleet: Fleet) -> None:
    fleet.publish(v1_0_0=b"1.0.0", v1_1_0=b"1.1.0 reboots", v1_2_0=b"broken")
    assert "m-1.1.0" in publisher(fleet.url, fleet.folder, "artifacts", "list")
    await fleet.change_project(enrolment="approve")
    await strangers_stay_out(fleet)
    one = fleet.client("one")
    with one.running(fleet.url) as process:
        await is_accepted(fleet, one)
        await has_nothing_to_do(fleet, one)
        await fleet.roll_out("1.1.0")
        await until_ended(one, process)
    assert not await fleet.runs("1.1.0")
    with one.running(fleet.url):
        await until(one, lambda: fleet.runs("1.1.0"))
        assert await fleet.said("1.1.0") == ["downloading", "installing", "rebooting", "installed"]
        await fails_with_its_log(fleet, one)
        await goes_back(fleet, one)
    assert one.installed.read_bytes() == b"1.0.0"
    assert "one" in publisher(fleet.url, fleet.folder, "devices", "list", "--raw")
    answer = await get(fleet.session, f"{fleet.url}{P}/devices/one/attributes", fleet.admin)
    assert b"artifact_name" in answer.body


async def strangers_stay_out(fleet: Fleet) -> None:
    """A device with a wrong token leaves no trace, and a rejected device and its key stay out."""
    size = await fleet.log_size()
    stranger = MenderClient(fleet.folder / "stranger", "two", "ftt_" + "x" * 43)
    with stranger.running(fleet.url):
        await until_says(stranger, REFUSED)
    assert await fleet.log_size() == size
    two = fleet.client("two")
    with two.running(fleet.url):
        await until_waits(fleet, two, "two")
        await fleet.post("devices/two/reject")
        size = await fleet.log_size()
        two.log.write_bytes(b"")
        await until_says(two, REFUSED)
    assert await fleet.log_size() == size


async def until_waits(fleet: Fleet, client: MenderClient, name: str) -> None:
    """Waits until the device waits to be accepted."""

    async def waits() -> bool:
        return await fleet.waiting() == {name}

    await until(client, waits)


async def is_accepted(fleet: Fleet, one: MenderClient) -> None:
    await until_waits(fleet, one, "one")
    await fleet.post("devices/one/accept")
    await until(one, lambda: fleet.runs("1.0.0"))


async def has_nothing_to_do(fleet: Fleet, one: MenderClient) -> None:
    size = await fleet.log_size()
    one.log.write_bytes(b"")
    await until_says(one, "update-check [Sync] -> check-wait [Idle]")
    assert await fleet.log_size() == size


async def until_ended(one: MenderClient, process: Any) -> None:
    """Waits until the update has restarted the device, which ends the client."""

    async def is_ended() -> bool:
        return process.poll() is not None

    await until(one, is_ended)


async def fails_with_its_log(fleet: Fleet, one: MenderClient) -> None:
    failing = await fleet.roll_out("1.2.0")
    await until(one, lambda: fleet.has_failed_with("the image is broken"))
    await fleet.post(f"rollouts/{failing}/abort", reason="it fails")
    assert await fleet.runs("1.1.0")


async def goes_back(fleet: Fleet, one: MenderClient) -> None:
    back = {"bad_version": "1.1.0", "to": "1.0.0", "reason": "a doubt"}
    await fleet.post("rollbacks", model="m", **back)
    await until(one, lambda: fleet.runs("1.0.0"))


async def test_a_mender_client_loads_over_a_network_that_breaks_off(fleet: Fleet) -> None:
    """The server is away at first, and then breaks a download off. An update that is paused
    meanwhile is cancelled, which the client learns when its download continues."""
    payload = Random(1).randbytes(400_000)  # which no compression shortens
    fleet.publish(v1_0_0=b"1.0.0", v1_1_0=payload + b"1", v1_2_0=payload + b"2")
    one = fleet.client("one", program=impatient(fleet.folder))
    async with Network(urlsplit(fleet.url).port or 0).open() as network:
        network.leave()
        with one.running(network.url):
            await until_refused(one, network)
            network.come_back()
            await until(one, lambda: fleet.runs("1.0.0"))
            network.before_a_cut = lambda: until_storing(one)
            network.cut_after_bytes = len(payload) // 2
            await fleet.roll_out("1.1.0")
            await until(one, lambda: fleet.runs("1.1.0"))
            assert network.cuts == 1
            assert await fleet.said("1.1.0") == ["downloading", "installing", "installed"]
            await is_cancelled(fleet, one, network, cut_after_bytes=len(payload) // 2)
    assert one.installed.read_bytes() == payload + b"2"


async def until_refused(one: MenderClient, network: Network) -> None:
    async def is_refused() -> bool:
        return network.refused > 0

    await until(one, is_refused)


async def until_storing(one: MenderClient) -> None:
    """Waits until the client continues a download that breaks off: it has read the headers."""

    async def is_storing() -> bool:
        return one.is_storing()

    await until(one, is_storing)


async def is_cancelled(
    fleet: Fleet, one: MenderClient, network: Network, *, cut_after_bytes: int
) -> None:
    network.stays_away_after_a_cut, network.cut_after_bytes = True, cut_after_bytes
    rollout = await fleet.roll_out("1.2.0")

    async def is_cut() -> bool:
        return network.cuts == 2

    await until(one, is_cut)
    await fleet.post(f"rollouts/{rollout}/pause", reason="a look")
    network.come_back()
    await until(one, fleet.has_cancelled)
    assert await fleet.said("1.2.0") == ["downloading"]
    await fleet.post(f"rollouts/{rollout}/resume")
    await until(one, lambda: fleet.runs("1.2.0"))

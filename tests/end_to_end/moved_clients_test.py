"""The clients of the field, and memfault-cli, when their project has moved to another instance.

At the old address they are sent on, and do not follow, because a client does not send its
credential to another host. Where the name of the old address leads to the new instance, all of them
continue.
"""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession
from rauc_hawkbit.ddi.client import APIError, DDIClient

from tests.end_to_end.command import in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.memfault_cli import Cli, curl
from tests.end_to_end.mender_client import MenderClient, artifact
from tests.end_to_end.moving import Story, name_instance, sqlite_place
from tests.end_to_end.network import Network
from tests.end_to_end.site import P, new_site
from tests.end_to_end.swu import Signer
from tests.end_to_end.swupdate import Swupdate

WAIT_S = 60
PAYLOAD = bytes(range(256)) * 400
JOINS = ("--role", "gateway", "--registers", "--model", "m")


@dataclass
class Fleet:
    """Holds a project that moves, and the programs of its devices."""

    it: Story
    folder: Path
    front: Network
    """Carries connections to the address that the devices know."""
    there: Network
    """Carries connections to the new instance."""
    joins: str
    """Lets devices of Mender's client join."""

    @property
    def url(self) -> str:
        """Returns the address of the server that `front` leads to."""
        return f"http://127.0.0.1:{self.front.leads_to}"

    @property
    def address(self) -> str:
        """Returns the new address. Its host is another one than that of the old address."""
        return self.there.url.replace("127.0.0.1", "localhost")

    def rauc(self) -> DDIClient:
        host, secret = urlsplit(self.front.url).netloc, self.it.site.secrets["d2"]
        return DDIClient(self.it.session, host, False, secret, "default", "d2")  # noqa: FBT003

    async def curl(self, path: str, *arguments: str) -> str:
        """Asks with curl as the device d3, and returns the status of the answer."""
        status = ("--output", str(self.folder / "answer"), "--write-out", "%{http_code}")
        return await asyncio.to_thread(curl, *arguments, *status, f"{self.front.url}{path}")

    async def memfault(self, *arguments: str) -> str:
        """Asks for the latest release as a device of Memfault does."""
        asked = "device_serial=d3&hardware_version=m&software_type=main&current_version=1.0.0"
        key = f"Memfault-Project-Key: {self.it.site.secrets['d3']}"
        path = f"/api/v0/releases/latest/url?{asked}"
        return await self.curl(path, *arguments, "--header", key)

    async def plain(self, *arguments: str) -> str:
        """Loads what to run from the one URL of the device."""
        user = f"d3:{self.it.site.secrets['d3']}"
        return await self.curl(
            f"{P}/devices/d3/update/artifact/image.bin", *arguments, "--user", user
        )

    async def until(self, device: str, report: tuple[str, str], log: Path) -> None:
        """Waits until a device has reported (version, status); `log` is what its program prints."""
        url, path = self.url, f"{P}/devices/{device}/history?progress=true"

        async def is_reported() -> bool:
            answer = await self.it.ask(url, "GET", path, self.it.site.admin)
            items = answer.json["items"] if answer.status == 200 else []
            return report in [(each["version"], each["status"]) for each in items]

        await until(is_reported, log)

    async def move(self, serve: Serve) -> None:
        """Moves the project, with its artifacts, and starts the new instance."""
        done = await asyncio.to_thread(self.it.move, "--redirect-to", self.address)
        assert done.exit_code == 0, done.said
        [stored] = self.it.old.folder.glob("*artifacts")
        shutil.copytree(stored, self.it.new.folder / stored.name)
        self.there.leads_to = _port(self.it.new.serve(serve).url)


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


async def until(is_so: Callable[[], Awaitable[bool]], *logs: Path) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WAIT_S):
            while not await is_so():
                await asyncio.sleep(0.2)
            return
    raise AssertionError([log.read_text(errors="replace")[-3_000:] for log in logs])


async def until_says(log: Path, text: str) -> None:
    """Waits until a program prints a text."""

    async def is_said() -> bool:
        return has_said(log, text)

    await until(is_said, log)


def has_said(log: Path, text: str) -> bool:
    return text in log.read_text(errors="replace")


async def set_up(it: Story, url: str, signer: Signer, folder: Path) -> None:
    """Registers devices, and adds a release with a file for each protocol."""
    for each in await it.admin(
        url, "POST", "devices", [{"device": name, "model": "m"} for name in ("d1", "d2", "d3")]
    ):
        it.site.secrets[each["device"]] = each["secret"]
        assert (await it.report(url, each["device"], "first")).status == 201
    for version in ("1.0.0", "1.1.0"):
        await it.admin(url, "POST", "releases", {"model": "m", "version": version})
    files = {
        "image.swu": signer.image("1.1.0", PAYLOAD, folder / "installed"),
        "image.mender": artifact(folder, "m-1.1.0", PAYLOAD).read_bytes(),
        "image.bin": PAYLOAD,
    }
    headers = {"Authorization": f"Bearer {it.site.admin}"}
    for name, content in files.items():
        put = f"{url}{P}/releases/m/1.1.0/artifacts/{name}"
        async with it.session.put(put, data=content, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
    async with it.session.patch(f"{url}{P}", json={"poll_after_s": 1}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path)


@pytest.fixture
async def fleet(serve: Serve, signer: Signer, tmp_path: Path) -> AsyncIterator[Fleet]:
    old, new = sqlite_place(tmp_path / "old", "old"), sqlite_place(tmp_path / "new", "new")
    for each in (old, new):
        await name_instance(each)
    async with ClientSession() as session:
        it = Story(old, new, await new_site(old.url, []), session)
        command = ("token", "create", "admin@example.org", "--project", "acme", *JOINS)
        joins = await asyncio.to_thread(in_process, old.url, *command)
        url = old.serve(serve).url
        await set_up(it, url, signer, tmp_path)
        async with Network(_port(url)).open() as front, Network(0).open() as there:
            yield Fleet(it, tmp_path, front, there, joins.out.strip())


@contextlib.contextmanager
def running(fleet: Fleet, *clients: MenderClient) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for each in clients:
            stack.enter_context(each.running(fleet.front.url))
        yield


async def test_clients_continue_where_their_address_leads_to_the_new_instance(
    fleet: Fleet, serve: Serve, signer: Signer
) -> None:
    """They run all the time: before the move, while they are only sent on, and afterwards."""
    d1 = Swupdate(
        fleet.folder, signer.certificate, fleet.front.url, "d1", fleet.it.site.secrets["d1"]
    )
    one, two = (MenderClient(fleet.folder / name, name, fleet.joins) for name in ("one", "two"))
    both = [{"ServerURL": fleet.front.url}, {"ServerURL": fleet.there.url}]
    two.settings = {"ServerURL": "", "Servers": both}
    async with d1.running():
        with running(fleet, one, two):
            for each in (one, two):
                await fleet.until(each.log.parent.name, ("1.0.0", "running"), each.log)
            await until_says(d1.log, "< HTTP/1.1 200 OK")
            await fleet.move(serve)
            await are_sent_on(fleet, d1, one)
            await one_with_both_addresses_continues(fleet, two)
            fleet.front.lead_to(fleet.there.leads_to)
            await install(fleet, d1, one)
    assert (fleet.folder / "installed").read_bytes() == PAYLOAD
    assert one.installed.read_bytes() == PAYLOAD


async def are_sent_on(fleet: Fleet, d1: Swupdate, one: MenderClient) -> None:
    """The credential stays behind: the new instance refuses, and the clients ask again later."""
    await until_says(d1.log, f"Issue another request to this URL: '{fleet.address}/acme/")
    await until_says(d1.log, "HTTP error code 401")
    await until_says(one.log, "unexpected authorization status 409")
    with pytest.raises(APIError, match="401"):
        await fleet.rauc()()
    file = fleet.folder / "more.bin"
    file.write_bytes(PAYLOAD)
    code, said = await asyncio.to_thread(
        Cli(fleet.front.url, fleet.it.site.admin).publish, file, "1.2.0"
    )
    assert (code != 0, "401" in said) == (True, True), said
    assert (await fleet.memfault(), await fleet.plain()) == ("308", "308")
    assert await fleet.plain("--location") == "401"
    assert await fleet.memfault("--location") == "204"  # to curl, this key is no credential


async def one_with_both_addresses_continues(fleet: Fleet, two: MenderClient) -> None:
    """A client of Mender asks the next server of its list, once this one no longer admits it."""
    await until_says(two.log, f"new authorization data from server {fleet.there.url}")


async def install(fleet: Fleet, d1: Swupdate, one: MenderClient) -> None:
    wanted = {"model": "m", "version": "1.1.0", "percent": 100}
    await fleet.it.admin(fleet.url, "POST", "rollouts", wanted)
    await fleet.until("d1", ("1.1.0", "rebooting"), d1.log)
    for name in ("one", "two"):
        await fleet.until(name, ("1.1.0", "installed"), one.log)
    assert "deploymentBase" in (await fleet.rauc()())["_links"]
    assert (await fleet.memfault(), await fleet.plain()) == ("200", "200")
    cli, file = Cli(fleet.front.url, fleet.it.site.admin), fleet.folder / "more.bin"
    code, said = await asyncio.to_thread(cli.publish, file, "1.2.0")
    assert code == 0, said

"""Debian's mender-client waits to be accepted, installs an update for real, fails with its log, and
goes back; mender-cli publishes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.databases import migrate_now
from tests.end_to_end.command import firmtrail, in_process, new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.mender_client import MenderClient, artifact, publisher
from tests.end_to_end.site import P, get, post

WAIT_S = 90


class Fleet:
    """Talks to the server as the admin of its project."""

    def __init__(self, session: ClientSession, url: str, admin: str) -> None:
        self.session, self.url, self.admin = session, url, admin

    async def device(self) -> dict[str, Any]:
        answer = await get(self.session, f"{self.url}{P}/devices/one", self.admin)
        shown: dict[str, Any] = answer.json if answer.status == 200 else {"version": None}
        return shown

    async def is_waiting(self) -> bool:
        """Returns whether a device and its key wait to be accepted."""
        path = f"{self.url}{P}/devices?pending=true"
        items = (await get(self.session, path, self.admin)).json["items"]
        return bool(items and items[0]["pending"] and items[0]["offered_key"])

    async def change_project(self, **settings: Any) -> None:
        headers = {"Authorization": f"Bearer {self.admin}"}
        async with self.session.patch(f"{self.url}{P}", json=settings, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def runs(self, version: str) -> bool:
        return bool((await self.device())["version"] == version)

    async def has_said(self, text: str) -> bool:
        path = f"{self.url}{P}/devices/one/history?progress=true"
        return text in (await get(self.session, path, self.admin)).body.decode()

    async def post(self, path: str, **body: Any) -> Any:
        answer = await post(self.session, f"{self.url}{P}/{path}", self.admin, body)
        assert answer.status < 300, answer.body
        return answer.json


async def until(client: MenderClient, what: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await what():
        assert time.monotonic() < deadline, client.log.read_text()[-6_000:]
        await asyncio.sleep(0.3)


def test_a_mender_client_joins_updates_fails_and_goes_back(serve: Serve, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/a.db"
    migrate_now(database)
    admin, boss = new_project(database), ("boss@example.org", "--project", "acme")
    assert (
        in_process(
            database,
            "user",
            "add",
            *boss,
            "--role",
            "admin",
            "--password-stdin",
            stdin="s3cret-enough",
        ).exit_code
        == 0
    )
    joins = ("--role", "gateway", "--registers", "--model", "m")
    token = in_process(database, "token", "create", *boss, *joins)
    client = MenderClient(tmp_path / "one", "one", token.out.strip())
    url = serve(database).url
    publish(url, tmp_path)
    asyncio.run(_play(client, url, admin, database))
    assert client.installed.read_bytes() == b"1.0.0"
    listed = publisher(url, tmp_path, "devices", "list", "--raw")
    assert "one" in listed


def publish(url: str, folder: Path) -> None:
    """Logs in and publishes three artifacts, the last of which fails to install."""
    publisher(url, folder, "login", "--username", "boss@example.org", "--password", "s3cret-enough")
    for version, payload in (("1.0.0", b"1.0.0"), ("1.1.0", b"1.1.0"), ("1.2.0", b"broken")):
        file = artifact(folder, f"m-{version}", payload)
        publisher(url, folder, "artifacts", "upload", "--no-progress", str(file))
    assert "m-1.1.0" in publisher(url, folder, "artifacts", "list")


async def _play(client: MenderClient, url: str, admin: str, database: str) -> None:
    async with ClientSession() as session:
        fleet = Fleet(session, url, admin)
        await fleet.change_project(enrolment="approve")
        with client.running(url):
            await until(client, fleet.is_waiting)
            accept = ("device", "accept", "one", "--project", "acme")
            accepted = await asyncio.to_thread(firmtrail, database, *accept)
            assert accepted.exit_code == 0, accepted.said
            await until(client, lambda: fleet.runs("1.0.0"))
            await fleet.post("rollouts", version="1.1.0", model="m", percent=100)
            await until(client, lambda: fleet.runs("1.1.0"))
            failing = await fleet.post("rollouts", version="1.2.0", model="m", percent=100)
            await until(client, lambda: fleet.has_said("the image is broken"))
            await fleet.post(f"rollouts/{failing['id']}/abort", reason="it fails")
            assert await fleet.runs("1.1.0")
            back = {"bad_version": "1.1.0", "to": "1.0.0", "reason": "a doubt"}
            await fleet.post("rollbacks", model="m", **back)
            await until(client, lambda: fleet.runs("1.0.0"))
        answer = await get(session, f"{url}{P}/devices/one/attributes", admin)
        assert b"artifact_name" in answer.body

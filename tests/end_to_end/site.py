"""Makes a project with devices before a server starts, and sends requests to it."""

import asyncio
from dataclasses import dataclass
from itertools import batched
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import ClientSession

from firmtrail.recording.recorder import Recorder
from tests.databases import opened
from tests.fleet import register
from tests.people import add_member, add_project, add_secret, issue_token, new_access
from tests.serving import Answer

PROJECT = "acme"
P = f"/api/v1/projects/{PROJECT}"
MODEL = "m1"


@dataclass(frozen=True)
class Site:
    """Holds the project acme, with its database and credentials."""

    database: str
    log_id: int
    gateway: str
    admin: str
    secrets: dict[str, str]
    """device -> its secret"""


class Entry(msgspec.Struct, frozen=True):
    """Holds the members of a log entry that tests read."""

    id: str
    subject: str
    data: dict[str, Any]


async def new_site(database: str, devices: list[str]) -> Site:
    """Makes the project in a migrated database that no server has open."""
    async with opened(database) as db:
        access, recorder = new_access(db), Recorder(db)
        log_id = await add_project(db, access, PROJECT)
        for some in batched(devices, 1_000):
            await register(recorder, log_id, *some, model=MODEL)
        tokens = {}
        for role in ("gateway", "admin"):
            person = await add_member(recorder, log_id, f"{role}@example.org", "admin")
            tokens[role] = (await issue_token(recorder, log_id, person, role)).text
        secrets = {name: await add_secret(db, access, PROJECT, name) for name in devices}
        await recorder.close()
        access.hasher.close()
    return Site(database, log_id, tokens["gateway"], tokens["admin"], secrets)


async def post(session: ClientSession, url: str, credential: str, body: Any) -> Answer:
    headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
    data = msgspec.json.encode(body).decode()
    async with session.post(url, data=data, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


async def get(session: ClientSession, url: str, credential: str = "") -> Answer:
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    async with session.get(url, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


async def post_and_hang_up(
    url: str, credential: str, body: Any, wait_s: float, *, without_bytes: int = 0
) -> None:
    """Sends a request, possibly without its last bytes, and disconnects before the answer."""
    parts = urlsplit(url)
    data = msgspec.json.encode(body)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.hostname}\r\n"
        f"Authorization: Bearer {credential}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    _, connection = await asyncio.open_connection(parts.hostname, parts.port)
    connection.write(head.encode() + data[: len(data) - without_bytes])
    await connection.drain()
    await asyncio.sleep(wait_s)
    connection.transport.abort()


async def entries(session: ClientSession, url: str, site: Site) -> list[Entry]:
    """Reads the whole log as an auditor, and checks that each entry is at its position."""
    answer = await get(session, f"{url}{P}/events?positions=true", site.admin)
    assert answer.status == 200, answer
    found = []
    for index, line in enumerate(answer.body.splitlines()):
        position, _, text = line.partition(b"\t")
        assert int(position) == index
        found.append(msgspec.json.decode(text, type=Entry))
    assert len(found) == answer.log_size
    return found

"""Tests that an answer that names a size of the log shows exactly the state at that size."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.application import app
from firmtrail.database.database import Database, Reader, Row, Statement
from firmtrail.http import decisions, respond
from firmtrail.recording.recorder import Recorder
from tests.databases import opened
from tests.people import new_access
from tests.service.site import CONSOLE, D, P, Site
from tests.service.steered import post, roll_out

ROUNDS = 60
TURNS = ("RolloutPaused", "RolloutResumed")


@contextlib.asynccontextmanager
async def second(site: Site, database_url: str) -> AsyncIterator[Site]:
    """Serves the database from another server, with its own connections on PostgreSQL."""
    async with contextlib.AsyncExitStack() as stack:
        if database_url.startswith("sqlite"):
            db, recorder = site.services.db, site.services.recorder
        else:
            db = await stack.enter_async_context(opened(database_url))
            recorder = Recorder(db)
        access = new_access(db)
        stack.callback(access.hasher.close)
        server = TestServer(app.build(app.services(db, access, recorder, site.services.serving)))
        await server.start_server(**app.RUNNER_OPTIONS)
        client = await stack.enter_async_context(TestClient(server))
        yield Site(client, site.services, site.log_id, site.credentials)


async def turns(site: Site) -> dict[int, str]:
    """Returns the rollout's state from each position on."""
    lines = (await site.get(f"{P}/events?positions=true", "auditor")).body.splitlines()
    found = {}
    for line in lines:
        position, _, entry = line.partition(b"\t")
        kind = msgspec.json.decode(entry)["type"].split(".")[1]
        if kind in TURNS:
            found[int(position)] = "paused" if kind == "RolloutPaused" else "running"
    return found


READS: dict[str, tuple[str, Any]] = {
    "the rollout": ("rollouts/{id}", lambda body: body["state"] == "paused"),
    "the rollouts": ("rollouts", lambda body: body["items"][0]["state"] == "paused"),
    "its devices": (
        "rollouts/{id}/devices?count=true",
        lambda body: body["items"][0]["reason"] == "paused",
    ),
    "the devices": ("devices", lambda body: body["items"][0]["target"] is None),
    "the devices, counted": (
        "devices?count=true&outdated=true",
        lambda body: body["items"][0]["target"] is None,
    ),
    "a device": ("devices/d1", lambda body: body["target"] is None),
    "an explanation": ("devices/d1/explain", lambda body: body["reason"] == "paused"),
    "a check-in": ("devices/d1/update", lambda body: body["reason"] == "paused"),
}


async def test_an_answer_shows_the_state_at_the_size_it_names(
    fleet: Site, database_url: str
) -> None:
    rollout = await roll_out(fleet)
    seen: list[tuple[str, int, bool]] = []
    async with second(fleet, database_url) as other:

        async def pause_and_resume() -> None:
            for number in range(ROUNDS):
                order = "pause" if number % 2 == 0 else "resume"
                assert (await post(other, f"rollouts/{rollout}/{order}")).status == 200
                await asyncio.sleep(0.005 * (number % 7))

        ordering = asyncio.create_task(pause_and_resume())

        async def look(name: str, path: str, is_paused: Callable[[Any], bool]) -> None:
            while not ordering.done():
                answer = await fleet.get(f"{P}/{path.format(id=rollout)}", "operator")
                assert answer.status == 200
                size = int(answer.headers[respond.LOG_SIZE])
                seen.append((name, size, is_paused(answer.json)))

        await asyncio.gather(*(look(name, *read) for name, read in READS.items()))
        await ordering
    states = await turns(fleet)
    stale = [
        (name, size)
        for name, size, paused in seen
        if paused != (states.get(max((at for at in states if at < size), default=-1)) == "paused")
    ]
    assert not stale, f"{len(stale)} of {len(seen)}: {stale[:5]}"


async def test_an_answer_with_a_first_offer_names_a_size_that_includes_it(fleet: Site) -> None:
    await roll_out(fleet)
    answer = await fleet.get(f"{D}/update", "device")
    assert answer.json["action"] == "update"
    lines = (await fleet.get(f"{P}/events", "auditor")).body.splitlines()
    position = next(n for n, line in enumerate(lines) if b"UpdateOffered" in line)
    assert int(answer.headers[respond.LOG_SIZE]) == position + 1


async def test_the_counts_of_a_rollout_belong_to_the_size_of_its_answer(
    fleet: Site, database_url: str
) -> None:
    """Each report of `installed` adds one event and one device."""
    rollout = await roll_out(fleet)
    names = [f"n{number}" for number in range(30)]
    await post(fleet, "devices", [{"device": name, "model": "m"} for name in names])
    for name in names:
        await fleet.report({"version": "1.0.0"}, caller="operator", path=f"{P}/devices/{name}")
        await fleet.get(f"{P}/devices/{name}/update", "gateway")
    begun = int((await fleet.get(f"{P}/rollouts/{rollout}")).headers[respond.LOG_SIZE])
    async with second(fleet, database_url) as other:

        async def install() -> None:
            for name in names:
                await other.report(
                    {"version": "1.1.0"}, caller="operator", path=f"{P}/devices/{name}"
                )

        installing = asyncio.create_task(install())
        while not installing.done():
            answer = await fleet.get(f"{P}/rollouts/{rollout}")
            size = int(answer.headers[respond.LOG_SIZE])
            assert answer.json["progress"]["installed"] == size - begun
            versions = await fleet.get(f"{P}/versions")
            new = [each for each in versions.json["items"] if each["version"] == "1.1.0"]
            size = int(versions.headers[respond.LOG_SIZE])
            assert sum(each["devices"] for each in new) == size - begun
        await installing


MOMENTS = (
    f"{P}/rollouts/{{id}}",
    f"{P}/rollouts/{{id}}?at={{at}}",
    f"{P}/rollouts/{{id}}/devices?count=true",
    f"{P}/rollouts/{{id}}/failures",
    f"{P}/attention",
    f"{P}/search?q=d1",
    f"{CONSOLE}/acme/rollouts/{{id}}",
    f"{CONSOLE}/acme/rollouts/{{id}}/plan",
    f"{CONSOLE}/acme/devices/d1",
    f"{CONSOLE}/acme/search?q=d&as_of=@{{size}}",
    f"{CONSOLE}/acme/releases/m/1.1.0",
    f"{CONSOLE}/acme",
)


@pytest.mark.parametrize("path", MOMENTS)
async def test_an_answer_reads_nothing_by_another_connection_while_it_has_one(
    fleet: Site, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Connections are few: requests that each wait for a second one would wait for ever."""
    plan = {"phases": [{"percent": 10}, {"percent": 100}]}
    rollout = await roll_out(fleet, plan=plan)
    shown = await fleet.get(f"{P}/rollouts/{rollout}")
    names = {"id": rollout, "at": shown.json["started_at"], "size": shown.headers[respond.LOG_SIZE]}
    kind = type(fleet.services.db)
    has_one: ContextVar[bool] = ContextVar("has_one", default=False)
    moment, read = kind.moment, kind.read

    @contextlib.asynccontextmanager
    async def noted(db: Database) -> AsyncIterator[Reader]:
        assert not has_one.get()
        async with moment(db) as reader:
            token = has_one.set(True)
            try:
                yield reader
            finally:
                has_one.reset(token)

    async def alone(db: Database, statement: Statement) -> Sequence[Row]:
        assert not has_one.get(), statement.text
        return await read(db, statement)

    monkeypatch.setattr(kind, "moment", noted)
    monkeypatch.setattr(kind, "read", alone)
    answer = await fleet.get(path.format(**names), "operator")
    assert answer.status == 200, answer.body


def test_only_decisions_takes_the_control_from_memory() -> None:
    """Elsewhere the control would be of another size than the rest of the answer.

    The time of the next poll is no part of what was read.
    """
    folder = Path(decisions.__file__).parent
    users = {path.name for path in folder.glob("*.py") if "recorder.controls" in path.read_text()}
    assert users == {"decisions.py", "poll.py"}

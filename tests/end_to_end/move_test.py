"""A project moves between databases while servers run; nothing that was acknowledged is lost."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from firmtrail import config
from firmtrail.cli.back_ends import back_end
from firmtrail.database import file_lock
from firmtrail.publishing import checkpoint, signing_key
from tests import databases
from tests.databases import opened, write
from tests.end_to_end import ledger
from tests.end_to_end.audits import name_the_log_before
from tests.end_to_end.conftest import Serve
from tests.end_to_end.forked import Forked, Streams
from tests.end_to_end.moving import (
    ADDRESS,
    DEVICES,
    Place,
    Story,
    name_instance,
    settling,
    sqlite_place,
)
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.site import MODEL, P, new_site
from tests.end_to_end.waiting import wait_until
from tests.postgres_server import PostgresServer
from tests.serving import Answer

KINDS = ("sqlite", "postgres")
SHORT_S, NEVER_S = 0.3, 3_600.0
"""How long a move waits for servers, where none runs; and one that does not come so far."""

type Make = Callable[[str, str], Place]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a migrated, empty database of a kind, of an instance with this name."""
    with contextlib.ExitStack() as stack:

        def made(kind: str, name: str) -> Place:
            folder = tmp_path / name
            if kind == "sqlite":
                return sqlite_place(folder, name)
            folder.mkdir()
            server: PostgresServer = request.getfixturevalue("postgres")
            template = databases.postgres_template(server)
            url = stack.enter_context(server.fresh_database(template))
            signing_key.create(folder / "key")
            return Place(url, name, folder, has_key=True)

        yield made


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ledger.session() as session:
        yield session


async def story(make: Make, session: ClientSession, kinds: tuple[str, str]) -> Story:
    old, new = make(kinds[0], "old"), make(kinds[1], "new")
    for place in (old, new):
        await name_instance(place)
    return Story(old, new, await new_site(old.url, []), session)


@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
async def test_a_project_moves_while_its_servers_run(
    make: Make, serve: Serve, session: ClientSession, source: str, target: str, tmp_path: Path
) -> None:
    it = await story(make, session, (source, target))
    servers = [it.old.serve(serve) for _ in range(1 if source == "sqlite" else 2)]
    urls = [each.url for each in servers]
    await it.register(urls[0])
    for device in DEVICES:
        assert (await it.report(urls[0], device, "first")).status == 201
    await it.admin(urls[0], "POST", "releases", {"model": MODEL, "version": "2.0.0"})
    rollout = {"model": MODEL, "version": "2.0.0", "percent": 50}
    rollout = await it.admin(urls[0], "POST", "rollouts", rollout)
    offered = await it.offers(urls[0])
    assert {each["version"] for each in offered} == {"2.0.0", None}
    old_key = (await it.ask(urls[0], "GET", f"{P}/log/key", it.site.admin)).body
    proof = await it.ask(urls[-1], "GET", f"{P}/events/3/proof", it.site.admin)
    early = it.new.serve(serve) if target == "postgres" else None  # a file has one writer
    stop = asyncio.Event()
    reporting = asyncio.create_task(it.keep_reporting(urls, stop))
    await asyncio.sleep(0.5)
    done = await asyncio.to_thread(it.moved)
    assert done.exit_code == 0, done.said
    await asyncio.sleep(2.5)
    stop.set()
    await reporting
    for url in urls:
        await check_sent_on(it, url, old_key)
    await asyncio.to_thread(it.commands_say_where, urls[0])
    new = early or it.new.serve(serve)
    assert await it.offers(new.url) == offered
    for (device, report_id), _ in list(it.acknowledged.items()):
        assert (await it.report(new.url, device, report_id)).status == 200
    late = await it.report(new.url, "d1", "late")
    assert (late.status, late.json["log"]) == (201, 2)
    shown = await it.admin(new.url, "GET", f"rollouts/{rollout['id']}")
    assert (shown["percent"], shown["state"]) == (50, "running")
    await check_old_proof(it, new.url, old_key, proof)
    new_key = (await it.ask(new.url, "GET", f"{P}/log/key", it.site.admin)).body
    (tmp_path / "both").write_bytes(old_key + new_key)
    await asyncio.to_thread(name_the_log_before, new.url + P, it.site.admin, tmp_path / "saved")
    it.audited(it.new, "--key", str(tmp_path / "both"))
    it.audited(it.new)
    it.audited(it.old)


async def check_sent_on(it: Story, url: str, old_key: bytes) -> None:
    """Checks that every route but those of the log is elsewhere."""
    for answer in (
        await it.report(url, "d1", "late"),
        await it.ask(url, "GET", f"{P}/devices?limit=5", it.site.admin),
    ):
        assert answer.status == 308, answer
        assert answer.headers["Location"].startswith(f"{ADDRESS}{P}/devices")
    assert (await it.ask(url, "GET", f"{P}/log/key", it.site.admin)).body == old_key
    assert (await it.ask(url, "GET", f"{P}/devices", "x" * 32)).status == 401


async def check_old_proof(it: Story, url: str, old_key: bytes, proof: Answer) -> None:
    """Checks that the new instance proves an event of the old log by the old key."""
    assert (await it.ask(url, "GET", f"{P}/logs/1/key", it.site.admin)).body == old_key
    again = await it.ask(url, "GET", f"{P}/logs/1/events/3/proof", it.site.admin)
    note = again.body.decode().partition("\n\n")[2]
    assert checkpoint.verify_note(note, checkpoint.read_key_line(old_key.decode())).size > 3
    assert proof.body.splitlines()[:2] == again.body.splitlines()[:2]


async def recorded(
    make: Make, serve: Serve, session: ClientSession, kinds: tuple[str, str]
) -> Story:
    """Returns a project whose devices have reported a few thousand times; no server runs."""
    it = await story(make, session, kinds)
    server = it.old.serve(serve)
    await it.register(server.url)
    for n in range(6):
        many = [{"version": f"1.{n}.{m}", "report_id": f"r{n}-{m}"} for m in range(500)]
        path = f"{P}/devices/{DEVICES[n]}/reports"
        answer = await it.ask(server.url, "POST", path, it.site.secrets[DEVICES[n]], many)
        assert answer.status == 201, answer
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    return it


async def open_logs(place: Place) -> list[int]:
    """Returns the numbers of the logs of the project that take events."""
    async with back_end(config.database(place.url)).opened_to_read() as db:
        rows = await databases.read(db, "SELECT number FROM log_heads WHERE closed = 0")
    return [number for [number] in rows]


@contextlib.contextmanager
def killed(it: Story, settle_s: float) -> Iterator[None]:
    """Starts a move, and kills it with SIGKILL after the block."""
    command = ("--database", it.old.url, "project", "move", "acme", "--to", it.new.url)
    nowhere = Path(os.devnull)
    process = Forked(
        (*command, "--redirect-to", ADDRESS),
        ENVIRONMENT | it.old.environment,
        Streams(nowhere, nowhere),
        settling(settle_s),
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # the process that writes for it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    files = [place.file for place in (it.old, it.new) if place.file]
    wait_until(lambda: not any(map(file_lock.is_locked, files)))  # what writes for it ends


@pytest.mark.parametrize("kinds", [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_a_killed_move_continues(
    make: Make, serve: Serve, session: ClientSession, kinds: tuple[str, str]
) -> None:
    it = await recorded(make, serve, session, kinds)
    before = await open_logs(it.old)
    for seconds in (0.1, 0.3, 0.5, 0.6, 0.8, 1.2):
        with killed(it, SHORT_S):
            await asyncio.sleep(seconds)
        here, there = await open_logs(it.old), await open_logs(it.new)
        assert (here, there) in [(before, []), ([], []), ([], [2])]
    done = await asyncio.to_thread(it.moved, settle_s=SHORT_S)
    assert done.exit_code == 0, done.said
    assert (await open_logs(it.old), await open_logs(it.new)) == ([], [2])
    again = await asyncio.to_thread(it.moved, settle_s=SHORT_S)  # nothing is left to do
    assert again.exit_code == 0, again.said
    new = it.new.serve(serve)
    known = {"version": "1.0.7", "report_id": "r0-7"}
    answer = await it.ask(new.url, "POST", f"{P}/devices/d0/reports", it.site.secrets["d0"], known)
    assert (answer.status, answer.json["duplicate"], answer.json["log"]) == (200, True, 1)
    it.audited(it.new)


@pytest.mark.parametrize("kinds", [("sqlite", "sqlite"), ("postgres", "postgres")])
async def test_a_move_is_undone_as_long_as_nothing_was_recorded_there(
    make: Make, serve: Serve, session: ClientSession, kinds: tuple[str, str]
) -> None:
    it = await recorded(make, serve, session, kinds)
    undo = ("--undo",)
    nothing = await asyncio.to_thread(it.move, *undo)
    assert (nothing.exit_code, "is not being moved" in nothing.said) == (2, True)
    with killed(it, NEVER_S):
        while await open_logs(it.old):
            await asyncio.sleep(0.01)
    assert (await open_logs(it.old), await open_logs(it.new)) == ([], [])
    undone = await asyncio.to_thread(it.move, *undo)
    assert undone.exit_code == 0, undone.said
    assert (await open_logs(it.old), await open_logs(it.new)) == ([1], [])
    for _ in range(2):
        assert (await asyncio.to_thread(it.moved, settle_s=SHORT_S)).exit_code == 0
        assert await open_logs(it.old) == []
        undone = await asyncio.to_thread(it.move, *undo)
        assert undone.exit_code == 0, undone.said
        assert (await open_logs(it.old), await open_logs(it.new)) == ([1], [])
    old = it.old.serve(serve)
    assert (await it.report(old.url, "d1", "here")).status == 201
    done = await asyncio.to_thread(it.moved)
    assert done.exit_code == 0, done.said
    new = it.new.serve(serve)
    assert (await it.report(new.url, "d1", "here")).status == 200
    assert (await it.report(new.url, "d1", "there")).status == 201
    new.send(signal.SIGTERM)
    assert new.exit_code() == 0
    refused = await asyncio.to_thread(it.move, *undo)
    assert (refused.exit_code, "recorded or read in new" in refused.said) == (2, True), refused.said
    for place in (it.new, it.old):
        it.audited(place)


async def plant_member(place: Place) -> None:
    async with opened(place.url) as db:
        await write(db, "INSERT INTO members VALUES ('acme', 'u_x', 'admin')")


async def test_a_project_that_can_not_move_says_why(
    make: Make, serve: Serve, session: ClientSession
) -> None:
    it = await story(make, session, ("sqlite", "postgres"))

    def refusal(place: Place, name: str, *options: str) -> str:
        done = place.run("project", "move", name, *options)
        assert done.exit_code == 2, done.said
        return " ".join(done.said.split())

    to, redirect = ("--to", it.new.url), ("--redirect-to", ADDRESS)
    assert "--redirect-to" in refusal(it.old, "acme", *to)
    for options in (("--undo", "--dry-run"), ("--undo", *redirect)):
        assert f"--undo excludes {options[1]}" in refusal(it.old, "acme", *to, *options)
    for address in (f"{ADDRESS}\n", "https://ann:secret@eu.example"):
        assert "--redirect-to must" in refusal(it.old, "acme", *to, "--redirect-to", address)
    assert "There is no project zebra" in refusal(it.old, "zebra", *to, *redirect)
    assert "migrate --instance" in refusal(it.old, "acme", "--to", "sqlite:///no.db", *redirect)
    twin = make("sqlite", "twin")
    assert "an instance named" in refusal(twin, "acme", "--to", twin.url, *redirect)
    looked = await asyncio.to_thread(it.move, "--dry-run")
    said = " ".join(looked.said.split())
    assert (looked.exit_code, "Nothing was changed. 1 log with " in said) == (0, True), said
    assert "Next to the log: members: 2, tokens: 2." in said
    await plant_member(it.old)
    planted = refusal(it.old, "acme", *to, *redirect)
    assert "members (u_x): is admin, but the log does not record it" in planted
    assert await open_logs(it.old) == [1]
    await asyncio.to_thread(it.new.run, "project", "add", "acme")
    assert "has a project acme already" in refusal(it.old, "acme", *to, *redirect)
    assert await open_logs(it.old) == [1]
    served = make("sqlite", "served")
    await name_instance(served)
    served.serve(serve)
    open_there = refusal(it.old, "acme", "--to", served.url, *redirect)
    assert "stop its server until the project has moved" in open_there
    bare = it.new._replace(has_key=False)
    into = ("--to", twin.url)
    assert "can't be signed" in refusal(bare, "acme", *into, *redirect)

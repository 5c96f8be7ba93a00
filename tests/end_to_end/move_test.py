"""A project moves between databases while servers run; nothing that was acknowledged is lost."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from aiohttp import ClientSession

from firmtrail import config
from firmtrail.cli.back_ends import back_end
from firmtrail.publishing import checkpoint, signing_key
from tests import databases
from tests.databases import opened, sqlite_template, write
from tests.end_to_end import ledger
from tests.end_to_end.audits import name_the_log_before
from tests.end_to_end.command import Done, firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT, Server
from tests.end_to_end.site import MODEL, Answer, P, Site, new_site
from tests.postgres_server import PostgresServer

ADDRESS = "https://eu.example"
DEVICES = [f"d{n}" for n in range(12)]
KINDS = ("sqlite", "postgres")

type Make = Callable[[str, str], "Place"]


class Place(NamedTuple):
    """A database with the key and the checkpoints of its servers."""

    url: str
    instance: str
    folder: Path
    has_key: bool
    """Whether its key and checkpoints have to be named."""

    def serve(self, serve: Serve) -> Server:
        key = ("--signing-key-file", f"{self.folder}/key")
        published = ("--checkpoints-file", f"{self.folder}/published")
        options = (*key, *published) if self.has_key else ()
        return serve(self.url, "--instance", self.instance, *options)

    def run(self, *arguments: str) -> Done:
        return firmtrail(self.url, *arguments, **self.environment)

    @property
    def environment(self) -> dict[str, str]:
        if not self.has_key:
            return {}
        return {
            "FIRMTRAIL_SIGNING_KEY_FILE": f"{self.folder}/key",
            "FIRMTRAIL_CHECKPOINTS_FILE": f"{self.folder}/published",
        }


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Makes a migrated, empty database of a kind, of an instance with this name."""
    with contextlib.ExitStack() as stack:

        def made(kind: str, name: str) -> Place:
            folder = tmp_path / name
            folder.mkdir()
            if kind == "sqlite":
                (folder / "firmtrail.db").write_bytes(sqlite_template())
                return Place(f"sqlite:///{folder}/firmtrail.db", name, folder, has_key=False)
            server: PostgresServer = request.getfixturevalue("postgres")
            template = databases.postgres_template(server)
            url = stack.enter_context(server.fresh_database(template))
            signing_key.create(folder / "key")
            return Place(url, name, folder, has_key=True)

        yield made


async def name_instance(place: Place) -> None:
    async with opened(place.url) as db:
        await write(db, "UPDATE instance SET name = $1", place.instance)


class Story:
    """The project acme in one instance, which moves to another one."""

    def __init__(self, old: Place, new: Place, site: Site, session: ClientSession) -> None:
        self.old, self.new, self.site, self.session = old, new, site, session
        self.acknowledged: dict[tuple[str, str], Any] = {}
        self.refused = 0

    async def ask(
        self, url: str, method: str, path: str, credential: str, body: Any = None
    ) -> Answer:
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": "application/json"}
        data = None if body is None else msgspec.json.encode(body)
        async with self.session.request(
            method, f"{url}{path}", data=data, headers=headers, allow_redirects=False
        ) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def admin(self, url: str, method: str, path: str, body: Any = None) -> Any:
        answer = await self.ask(url, method, f"{P}/{path}", self.site.admin, body)
        assert answer.status < 300, answer
        return answer.json if answer.body else None

    async def register(self, url: str) -> None:
        """Registers the devices, so that the log names their secrets."""
        wanted = [{"device": device, "model": MODEL} for device in DEVICES]
        for each in await self.admin(url, "POST", "devices", wanted):
            self.site.secrets[each["device"]] = each["secret"]

    async def report(self, url: str, device: str, report_id: str) -> Answer:
        """Reports once, and remembers a receipt."""
        body = {"version": "1.0.0", "status": "running", "report_id": report_id}
        path = f"{P}/devices/{device}/reports"
        answer = await self.ask(url, "POST", path, self.site.secrets[device], body)
        if answer.status in {200, 201}:
            receipt = {name: answer.json[name] for name in ("log", "position")}
            known = self.acknowledged.setdefault((device, report_id), receipt)
            assert known == receipt
        return answer

    async def keep_reporting(self, urls: list[str], stop: asyncio.Event) -> None:
        """Reports to any server until the project is elsewhere."""
        n = 0
        while not stop.is_set():
            n += 1
            answer = await self.report(urls[n % len(urls)], DEVICES[n % 12], f"while-{n}")
            assert answer.status in {201, 503, 308}, answer
            if answer.status != 201:
                self.refused += 1
                await asyncio.sleep(0.05)

    async def offers(self, url: str) -> list[Any]:
        found = []
        for device in DEVICES:
            path = f"{P}/devices/{device}/update"
            answer = await self.ask(url, "GET", path, self.site.secrets[device])
            assert answer.status == 200, answer
            found.append({name: answer.json.get(name) for name in ("version", "rollout", "source")})
        return found

    def move(self, *options: str) -> Done:
        return self.old.run("project", "move", "acme", "--to", self.new.url, *options)

    def moved(self) -> Done:
        return self.move("--redirect-to", ADDRESS)

    def commands_say_where(self, url: str) -> None:
        """Checks that commands on the old database and on its server name the new instance."""
        where = f"Project acme has moved to the instance new, at {ADDRESS}: use that one."
        of_acme, remote = ("--project", "acme"), ("--url", url, "--token", self.site.admin)
        for command in (
            ("device", "show", *of_acme, "d1"),
            ("device", "list", *of_acme),
            ("device", "decommission", *of_acme, "d1"),
            ("versions", *of_acme),
            ("project", "show", "acme"),
            ("log", "continue", *of_acme),
            ("device", "list", *of_acme, *remote),
            ("device", "decommission", *of_acme, "d1", *remote),
            ("project", "move", "acme", "--to", self.new.url),
            ("project", "move", "acme", "--to", self.new.url, "--dry-run"),
            ("project", "move", "acme", "--to", self.new.url, "--redirect-to", "https://x.example"),
        ):
            done = self.old.run(*command)
            said = " ".join(done.said.split())
            assert (done.exit_code, done.out, where in said) == (2, "", True), (command, said)

    def audited(self, place: Place, *arguments: str) -> None:
        for kind in ("verify", "replay"):
            given = arguments if kind == "verify" else ()
            done = place.run("audit", kind, "--project", "acme", *given)
            assert (done.exit_code, "All is well." in done.out) == (0, True), done.out + done.said


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
    for url in urls:  # every route but those of the log is elsewhere
        for answer in (
            await it.report(url, "d1", "late"),
            await it.ask(url, "GET", f"{P}/devices?limit=5", it.site.admin),
        ):
            assert answer.status == 308, answer
            assert answer.headers["Location"].startswith(f"{ADDRESS}{P}/devices")
        assert (await it.ask(url, "GET", f"{P}/log/key", it.site.admin)).body == old_key
        assert (await it.ask(url, "GET", f"{P}/devices", "x" * 32)).status == 401
    await asyncio.to_thread(it.commands_say_where, urls[0])
    new = early or it.new.serve(serve)
    assert await it.offers(new.url) == offered
    for (device, report_id), _ in list(it.acknowledged.items()):
        assert (await it.report(new.url, device, report_id)).status == 200
    late = await it.report(new.url, "d1", "late")
    assert (late.status, late.json["log"]) == (201, 2)
    shown = await it.admin(new.url, "GET", f"rollouts/{rollout['id']}")
    assert (shown["percent"], shown["state"]) == (50, "running")
    key = (await it.ask(new.url, "GET", f"{P}/logs/1/key", it.site.admin)).body
    assert key == old_key
    again = await it.ask(new.url, "GET", f"{P}/logs/1/events/3/proof", it.site.admin)
    note = again.body.decode().partition("\n\n")[2]
    assert checkpoint.verify_note(note, checkpoint.read_key_line(key.decode())).size > 3
    assert proof.body.splitlines()[:2] == again.body.splitlines()[:2]
    new_key = (await it.ask(new.url, "GET", f"{P}/log/key", it.site.admin)).body
    (tmp_path / "both").write_bytes(key + new_key)
    await asyncio.to_thread(name_the_log_before, new.url + P, it.site.admin, tmp_path / "saved")
    it.audited(it.new, "--key", str(tmp_path / "both"))
    it.audited(it.new)
    it.audited(it.old)


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


async def killed_after(it: Story, seconds: float, *, is_stopped: bool = False) -> None:
    """Starts a move, and kills it with SIGKILL; possibly some time after the project stopped."""
    command = [sys.executable, "-m", "firmtrail", "--database", it.old.url, "project", "move"]
    command += ["acme", "--to", it.new.url, "--redirect-to", ADDRESS]
    process = await asyncio.create_subprocess_exec(
        *command,
        env=ENVIRONMENT | it.old.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while is_stopped and await open_logs(it.old):
        await asyncio.sleep(0.1)
    await asyncio.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):  # it may have ended
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    await asyncio.sleep(0.5)  # the process that writes for it ends


@pytest.mark.parametrize("kinds", [("sqlite", "postgres"), ("postgres", "sqlite")])
async def test_a_killed_move_continues(
    make: Make, serve: Serve, session: ClientSession, kinds: tuple[str, str]
) -> None:
    it = await recorded(make, serve, session, kinds)
    before = await open_logs(it.old)
    for seconds in (2.5, 4, 5, 6, 7, 9):
        await killed_after(it, seconds)
        here, there = await open_logs(it.old), await open_logs(it.new)
        assert (here, there) in [(before, []), ([], []), ([], [2])]
    done = await asyncio.to_thread(it.moved)
    assert done.exit_code == 0, done.said
    assert (await open_logs(it.old), await open_logs(it.new)) == ([], [2])
    again = await asyncio.to_thread(it.moved)  # nothing is left to do
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
    await killed_after(it, 1, is_stopped=True)
    assert (await open_logs(it.old), await open_logs(it.new)) == ([], [])
    undone = await asyncio.to_thread(it.move, *undo)
    assert undone.exit_code == 0, undone.said
    assert (await open_logs(it.old), await open_logs(it.new)) == ([1], [])
    for _ in range(2):
        assert (await asyncio.to_thread(it.moved)).exit_code == 0
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

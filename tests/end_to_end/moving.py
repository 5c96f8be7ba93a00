"""A project that moves between two databases, and what its devices report meanwhile."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import ClientSession

from firmtrail.cli.project_moves import SETTLE_S
from tests.databases import opened, sqlite_template, write
from tests.end_to_end.command import Done, run
from tests.end_to_end.conftest import Serve
from tests.end_to_end.forked import Constants
from tests.end_to_end.processes import Server
from tests.end_to_end.site import MODEL, P, Site
from tests.serving import Answer

ADDRESS = "https://eu.example"
DEVICES = [f"d{n}" for n in range(12)]


def settling(settle_s: float) -> Constants:
    """Lets a move wait so long until every server has seen it: where none runs, it may be short."""
    return {("firmtrail.cli.project_moves", "SETTLE_S"): settle_s}


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

    def run(self, *arguments: str, settle_s: float = SETTLE_S) -> Done:
        return run(self.url, arguments, environment=self.environment, constants=settling(settle_s))

    @property
    def file(self) -> Path | None:
        """The file of an embedded database."""
        return None if self.has_key else Path(self.url.removeprefix("sqlite:///"))

    @property
    def environment(self) -> dict[str, str]:
        if not self.has_key:
            return {}
        return {
            "FIRMTRAIL_SIGNING_KEY_FILE": f"{self.folder}/key",
            "FIRMTRAIL_CHECKPOINTS_FILE": f"{self.folder}/published",
        }


def sqlite_place(folder: Path, name: str) -> Place:
    """Makes a migrated, empty database in a file, of an instance with this name."""
    folder.mkdir()
    (folder / "firmtrail.db").write_bytes(sqlite_template())
    return Place(f"sqlite:///{folder}/firmtrail.db", name, folder, has_key=False)


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

    def move(self, *options: str, settle_s: float = SETTLE_S) -> Done:
        command = ("project", "move", "acme", "--to", self.new.url, *options)
        return self.old.run(*command, settle_s=settle_s)

    def moved(self, *, settle_s: float = SETTLE_S) -> Done:
        return self.move("--redirect-to", ADDRESS, settle_s=settle_s)

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

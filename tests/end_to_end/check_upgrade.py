"""Two versions of this repository serve one PostgreSQL under load, and no request fails.

Apart from the suite, as `make check-upgrade`: it needs the history of the repository, and takes
minutes. OLD names the version before, any commit whose code may still use this version's schema;
without it, that is the commit before the newest migration. SECONDS says for how long servers of
both versions are stopped and started. If the old version has other revisions of views, servers are
replaced once, and in one direction, and HAProxy sends requests to one version at a time: old
servers append nothing once the new views are live.

HAProxy stands in front of two servers, with the health check of deploy/haproxy.cfg, only quicker.
Servers are stopped as an operator stops them: SIGTERM, with a delay in which /readyz fails.
"""

import asyncio
import functools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientError, ClientSession

from firmtrail.publishing import signing_key
from firmtrail.schema import migrations
from tests.databases import opened, read
from tests.end_to_end import ledger
from tests.end_to_end.ledger import Writer
from tests.end_to_end.processes import Server
from tests.end_to_end.site import MODEL, PROJECT, P, Site, get, post
from tests.end_to_end.switched_proxy import proxy, until_up, use
from tests.end_to_end.truth import untruths
from tests.end_to_end.versions import Version, new, old
from tests.postgres_server import PostgresServer

__all__ = ["new", "old", "proxy"]  # fixtures

SECONDS = float(os.environ.get("FIRMTRAIL_TEST_SECONDS", "60"))
WRITERS = 3


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


class Place:
    """One of the two places behind the proxy, where a server of either version runs."""

    def __init__(self, name: str, folder: Path, database: str, port: int, keys: list[str]) -> None:
        self.name = name
        self.port = port
        self._database = database
        self.folder = folder
        self._log = folder / f"{name}.log"
        self.keys = keys
        self._options = [*keys, "--port", str(port), "--drain-delay", "3"]
        self.server: Server | None = None
        self.runs = ""

    async def start(self, version: Version) -> None:
        server = Server(self._database, self._log, *self._options, source=version.source)
        await asyncio.to_thread(server.start)
        self.server, self.runs = server, version.name
        await until_up(self.folder, self.name)

    async def stop(self) -> None:
        assert self.server is not None
        self.server.send(signal.SIGTERM)
        assert await asyncio.to_thread(self.server.exit_code) == 0

    def end(self) -> None:
        if self.server is not None and self.server.is_running:
            self.server.kill()

    def faults(self) -> list[str]:
        """Returns the lines of its servers that name a bug or an answer of 5xx; a server that
        drains is not ready."""
        lines = self._log.read_text(errors="replace").splitlines()
        lines = [each for each in lines if '"route":"/readyz"' not in each]
        return [each for each in lines if '"exception":' in each or '"status":5' in each]


@dataclass
class Load:
    """Reads, checks in and orders through the proxy, and counts the answers."""

    site: Site
    url: str
    statuses: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    """The requests that were answered with 503 and `Retry-After`."""

    async def call(self, session: ClientSession, method: str, path: str, body: object) -> bytes:
        """Sends one request as an admin; a failure is kept, and answered with nothing."""
        began = time.monotonic()
        try:
            if method == "POST":
                answer = await post(session, f"{self.url}{path}", self.site.admin, body)
            else:
                answer = await get(session, f"{self.url}{path}", self.site.admin)
        except (ClientError, ConnectionError, TimeoutError) as error:
            self.failed.append(f"{method} {path}: {error!r} after {time.monotonic() - began:.1f} s")
            return b"{}"
        self.statuses[f"{method} {answer.status}"] += 1
        if answer.status == 503 and "Retry-After" in answer.headers:
            self.unavailable.append(f"{method} {path}: {answer.body.decode()}")
        elif answer.status not in {200, 201, 202, 204}:
            self.failed.append(f"{method} {path}: {answer.status} {answer.body.decode()}")
        return answer.body

    async def read(self, session: ClientSession, stop: asyncio.Event) -> None:
        devices = list(self.site.secrets)
        while not stop.is_set():
            device = random.choice(devices)
            for path in (
                f"{P}/devices/{device}",
                f"{P}/devices/{device}/history",
                f"{P}/devices?limit=20&outdated=true",
                f"{P}/versions",
                f"{P}/rollouts",
                f"{P}/events?from=0&to=20",
                f"{P}/log/checkpoint",
            ):
                await self.call(session, "GET", path, None)
            await asyncio.sleep(0.02)

    async def check_in(self, session: ClientSession, stop: asyncio.Event) -> None:
        """Asks as devices, also with long polls, what they should run."""
        while not stop.is_set():
            device, secret = random.choice(list(self.site.secrets.items()))
            wait = random.choice(["", "?wait=2"])
            try:
                path = f"{self.url}{P}/devices/{device}/update{wait}"
                answer = await get(session, path, secret)
            except (ClientError, ConnectionError, TimeoutError) as error:
                self.failed.append(f"check-in: {error!r}")
                continue
            self.statuses[f"check-in {answer.status}"] += 1
            if answer.status == 503 and "Retry-After" in answer.headers:
                self.unavailable.append(f"check-in: {answer.body.decode()}")
                await asyncio.sleep(0.02)
            elif answer.status != 200:
                self.failed.append(f"check-in: {answer.status} {answer.body.decode()}")

    async def order(self, session: ClientSession, stop: asyncio.Event) -> None:
        """Adds releases, and starts, pauses, resumes and ends rollouts of them."""
        for number in count(1):
            release = {"version": f"2.0.{number}", "model": MODEL, "notes": "better"}
            await self.call(session, "POST", f"{P}/releases", release)
            wanted = {"version": release["version"], "model": MODEL, "percent": 50}
            made = await self.call(session, "POST", f"{P}/rollouts", wanted)
            rollout = msgspec.json.decode(made).get("id")
            for command, body in (
                ("pause", {"reason": "a look"}),
                ("resume", {}),
                ("advance", {"percent": 100}),
                ("abort", {"reason": "the next one comes"}),
            ):
                await self.call(session, "POST", f"{P}/rollouts/{rollout}/{command}", body)
                await asyncio.sleep(0.1)
            if stop.is_set():
                return


@pytest.mark.timeout(SECONDS + 900)
async def test_two_versions_serve_side_by_side_and_lose_nothing(
    old: Version,
    new: Version,
    postgres: PostgresServer,
    proxy: tuple[str, int, int],
    tmp_path: Path,
) -> None:
    """If a view has a new revision, the servers are replaced once; else both versions restart all
    the time."""
    database, (url, *ports) = postgres.create_database("upgraded"), proxy
    old.done(database, "migrate")
    before = schema_of(old, database)
    assert before < migrations.HEAD, f"{old.name} has the schema of this version: name an older one"
    site, writers = await new_writers(old, database, tmp_path)
    keys, load = signing_options(tmp_path), Load(site, url)
    places = [
        Place(name, tmp_path, database, port, keys) for name, port in zip("ab", ports, strict=True)
    ]
    rebuilds = old.revisions() != new.revisions()
    try:
        for place in places:
            await place.start(old)
        if rebuilds:
            moves = await replaced_under_load(load, writers, places, new, database)
        else:
            moves = await under_load(load, writers, places, (old, new), database)
    finally:
        for place in places:
            place.end()
    unavailable = sum(each.unavailable for each in writers)
    interrupted = sum(each.interrupted for each in writers)
    acknowledged = sum(len(each.acknowledged) for each in writers)
    print(  # noqa: T201
        f"\n{old.name}: {moves} restarts, {dict(load.statuses)}, {acknowledged} reports "
        f"acknowledged, {unavailable} reports got 503, {interrupted} no answer"
    )
    assert load.failed + load.unavailable == []
    assert (unavailable, interrupted) == (0, 0)
    assert [fault for place in places for fault in place.faults()] == []
    new.done(database, *keys, "audit", "verify", "--project", PROJECT)
    new.done(database, *keys, "audit", "replay", "--project", PROJECT)
    assert await untruths(site) == []


async def replaced_under_load(
    load: Load, writers: list[Writer], places: list[Place], new: Version, database: str
) -> int:
    """Migrates, and replaces each server by a new one, while devices report and people read.
    Returns how many servers were started."""
    a, b = places
    stop = asyncio.Event()
    async with ledger.session() as session, asyncio.TaskGroup() as tasks:
        for work in (load.read, load.read, load.check_in, load.check_in):
            tasks.create_task(work(session, stop))
        try:
            async with ledger.load(session, writers, load.url):
                await ledger.until_all_go_on(writers)
                await asyncio.to_thread(new.done, database, "migrate")
                await ledger.until_all_go_on(writers)
                await use(a.folder, used="b", unused="a")
                await a.stop()
                await a.start(new)  # prepares its views while the other server serves
                await ledger.until_all_go_on(writers)
                await use(a.folder, used="a", unused="b")
                await b.stop()
                await b.start(new)
                await ledger.until_all_go_on(writers)
        finally:
            stop.set()
    async with ledger.session() as session:
        await ledger.settle(session, writers, load.url)
    return len(places)


async def under_load(
    load: Load,
    writers: list[Writer],
    places: list[Place],
    versions: tuple[Version, Version],
    database: str,
) -> int:
    """Migrates and restarts while requests come, and divides the table of events once only new
    servers run; returns how many servers were started again."""
    old, new = versions
    stop = asyncio.Event()
    async with ledger.session() as session, asyncio.TaskGroup() as tasks:
        for work in (load.read, load.read, load.check_in, load.check_in, load.order):
            tasks.create_task(work(session, stop))
        try:
            async with ledger.load(session, writers, load.url):
                await ledger.until_all_go_on(writers)
                await asyncio.to_thread(new.done, database, "migrate")
                await ledger.until_all_go_on(writers)
                moves = await restarts(places, old, new)
                await ledger.until_all_go_on(writers)
                verify = (*places[0].keys, "audit", "verify", "--project", PROJECT)
                await asyncio.to_thread(old.done, database, *verify)
                await asyncio.to_thread(new.done, database, "migrate", "--partition")
                await ledger.until_all_go_on(writers)
        finally:
            stop.set()
    async with ledger.session() as session:
        await ledger.settle(session, writers, load.url)
    return moves


async def restarts(places: list[Place], old: Version, new: Version) -> int:
    """Replaces one server after the other: old by old, old by new, new by new, and new by old."""
    until_s, moves = time.monotonic() + SECONDS, 0
    a, b = places
    rounds = ((a, old), (a, new), (b, old), (b, new), (a, new), (b, old), (a, old))
    while True:
        for place, version in rounds:
            await place.stop()
            await place.start(version)
            moves += 1
        if time.monotonic() >= until_s:
            break
    for place in places:
        await place.stop()
        await place.start(new)
    return moves + len(places)


async def new_writers(old: Version, database: str, folder: Path) -> tuple[Site, list[Writer]]:
    """Makes the project with commands of the old version, whose schema the database has."""
    run = functools.partial(old.done, database)
    email = "admin@example.org"
    run("project", "add", PROJECT)
    run("user", "add", email, "--project", PROJECT, "--role", "admin")
    admin, gateway = (
        run("token", "create", email, "--project", PROJECT, "--role", role).strip()
        for role in ("admin", "gateway")
    )
    devices = [device for number in range(WRITERS) for device in ledger.devices_of(number)]
    rows = folder / "devices.csv"
    rows.write_text("\n".join(["device,model", *(f"{device},{MODEL}" for device in devices)]))
    made = run("device", "import", str(rows), "--project", PROJECT).splitlines()
    secrets = {row["device"]: row["secret"] for row in map(msgspec.json.decode, made)}
    async with opened(database) as db:
        [[log_id]] = await read(db, "SELECT log_id FROM projects WHERE project = $1", PROJECT)
    site = Site(database, log_id, gateway, admin, secrets)
    return site, [Writer(site, number) for number in range(WRITERS)]


def schema_of(version: Version, database: str) -> str:
    rows = msgspec.json.decode(version.firmtrail(database, "doctor", "--json").stdout)
    [found] = [row["found"] for row in rows if row["check"] == "schema"]
    return str(found)


def signing_options(folder: Path) -> list[str]:
    """Makes a key; returns the options with which all servers publish."""
    key = folder / "key.pem"
    signing_key.create(key)
    return ["--signing-key-file", str(key), "--checkpoints-file", str(folder / "checkpoints")]

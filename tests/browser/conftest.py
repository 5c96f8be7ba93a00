"""A service with the demo's fleet, and one browser; both serve all tests of a module."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Browser, async_playwright

from firmtrail.access import people
from firmtrail.access.credentials import new_id
from firmtrail.application import app
from firmtrail.artifacts import Artifacts
from firmtrail.commands import demo_fleet
from firmtrail.database.database import Database
from firmtrail.http.call import Services
from firmtrail.http.connection import HttpRunner
from firmtrail.recording.recorder import Recorder
from tests.databases import opened, sqlite_template
from tests.people import begin_session, new_access
from tests.publishing import new_publisher
from tests.serving import SERVING

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
EMAIL = "ana@example.org"


@dataclass(frozen=True)
class Console:
    """A running console, and a person that may do everything in its project."""

    url: str
    services: Services
    recorder: Recorder
    db: Database
    log_id: int
    actor_id: str
    session: str
    """The text of the cookie."""

    @property
    def project(self) -> str:
        return f"{self.url}/console/{demo_fleet.PROJECT}"


@pytest.fixture(scope="module")
def console_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("console") / "firmtrail.db"
    path.write_bytes(sqlite_template())
    yield path
    path.unlink()


@pytest.fixture(scope="module")
async def console(console_file: Path) -> AsyncIterator[Console]:
    async with serving(console_file) as served:
        yield served


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Console]:
    """Serves the demo's fleet from this empty database; files next to it belong to the service."""
    async with opened(f"sqlite:///{path}") as db:
        recorder, access = Recorder(db), new_access(db)
        async with db.transaction() as tx:
            [[[actor_id]]] = await tx.run(people.ensure(new_id("u"), EMAIL, 0))
        await demo_fleet.ensure(db, actor_id)
        log_id = await access.project(demo_fleet.PROJECT)
        assert log_id is not None
        session = await begin_session(db, access, actor_id)
        publisher = new_publisher(db, path.parent / "signed", recorder.minimum_sizes)
        services = app.services(
            db,
            access,
            recorder,
            SERVING,
            publisher=publisher,
            artifacts=Artifacts(path.parent / "artifacts"),
        )
        async with served(services) as url:
            yield Console(url, services, recorder, db, log_id, actor_id, session)
        access.hasher.close()
        await recorder.close()


class served:  # noqa: N801 (used as a function)
    """Serves as a server of ours does, on a free port."""

    def __init__(self, services: Services) -> None:
        self._runner = HttpRunner(
            app.build(services), gate=services.gate, clients=services.clients, **app.RUNNER_OPTIONS
        )

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as started:
        yield started


@contextlib.asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Starts Debian's browser: `apt-get install chromium`."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        await started.close()

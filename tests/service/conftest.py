"""A service with one project, somebody in each role, and a device; and another project."""

from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from aiohttp import web

from firmtrail import config
from firmtrail.application import app
from firmtrail.artifacts import Artifacts
from firmtrail.database import postgres
from firmtrail.database.database import Database
from firmtrail.http.connection import HttpRunner
from firmtrail.recording.recorder import Recorder
from firmtrail.webhooks.targets import AllowedTargets
from tests.databases import Fill, with_nothing
from tests.publishing import new_publisher
from tests.service import filling
from tests.service.ddi import Ddi, add_artifact
from tests.service.filling import People
from tests.service.receiver import Receiver, receiving
from tests.service.site import Address, Site


@pytest.fixture(autouse=True)
def few_connections() -> Iterator[None]:
    """An application that starts opens as many as it may, and each begins with empty caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "CONNECTIONS_MAX", 3)
        yield


@pytest.fixture
def projects() -> config.ProjectMakers:
    """Who may create projects."""
    return "operator"


@pytest.fixture
def fill(request: pytest.FixtureRequest) -> Fill:
    """Fills the database with what the test's fixtures need."""
    if "fleet" in request.fixturenames:
        return filling.with_fleet
    return filling.with_people if "site" in request.fixturenames else with_nothing


@pytest.fixture
async def site(
    db: Database,
    recorder: Recorder,
    made: People,
    tmp_path: Path,
    projects: config.ProjectMakers,
) -> AsyncIterator[Site]:
    publisher = new_publisher(db, tmp_path / "checkpoints", recorder.minimum_sizes)
    options = {"publisher": publisher, "artifacts": Artifacts(tmp_path / "artifacts")}
    async with filling.served(db, recorder, made, projects=projects, **options) as site:
        yield site


@pytest.fixture
async def fleet(site: Site) -> Site:
    """d1 and d2 of model m run 1.0.0; m has releases up to 1.2.0."""
    return site


@pytest.fixture
async def receiver(site: Site) -> AsyncIterator[Receiver]:
    """A receiver on loopback, which the operator allows."""
    site.services.sender.allowed = AllowedTargets((ip_network("127.0.0.0/8"),))
    async with receiving() as found:
        yield found


@pytest.fixture
async def address(site: Site) -> AsyncIterator[Address]:
    """The host and port of a server that listens as one of ours, for clients that write bytes."""
    runner = HttpRunner(
        app.build(site.services),
        gate=site.services.gate,
        clients=site.services.clients,
        **app.RUNNER_OPTIONS,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0]
    await runner.cleanup()


@pytest.fixture
async def ddi(fleet: Site) -> Ddi:
    """d1 runs 1.0.0, and 1.1.0 has an artifact."""
    await add_artifact(fleet)
    return Ddi(fleet)

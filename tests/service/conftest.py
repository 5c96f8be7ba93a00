"""A service with one project, somebody in each role, and a device; and another project."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import get_args

import pytest
from aiohttp import DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from firmtrail import config
from firmtrail.access.roles import Role
from firmtrail.application import app
from firmtrail.artifacts import Artifacts
from firmtrail.database.database import Database
from firmtrail.http.connection import HttpRunner
from firmtrail.recording.recorder import Recorder
from firmtrail.webhooks.targets import AllowedTargets
from tests.fleet import register
from tests.people import (
    add_member,
    add_project,
    add_secret,
    begin_session,
    issue_token,
    new_access,
)
from tests.publishing import new_publisher
from tests.service.ddi import Ddi, add_artifact
from tests.service.receiver import Receiver, receiving
from tests.service.site import Address, P, Site
from tests.service.steered import post


@pytest.fixture
def projects() -> config.ProjectMakers:
    """Who may create projects."""
    return "operator"


@pytest.fixture
async def site(
    db: Database, recorder: Recorder, tmp_path: Path, projects: config.ProjectMakers
) -> AsyncIterator[Site]:
    access, artifacts = new_access(db), Artifacts(tmp_path / "artifacts")
    publisher = new_publisher(db, tmp_path / "checkpoints", recorder.minimum_sizes)
    services = app.services(
        db,
        access,
        recorder,
        publisher=publisher,
        artifacts=artifacts,
        seed_project="demo",
        is_demo=True,
        projects=projects,
    )
    log_id = await add_project(db, access, "acme")
    other_log_id = await add_project(db, access, "other")
    await register(recorder, log_id, "d1", "d2")
    credentials = {"device": await add_secret(db, access, "acme", "d1")}
    sessions = {}
    for role in get_args(Role.__value__):
        person = await add_member(recorder, log_id, f"{role}@example.org", role)
        credentials[role] = (await issue_token(recorder, log_id, person, role)).text
        sessions[role] = await begin_session(db, access, person)
    stranger = await add_member(recorder, other_log_id, "stranger@example.org", "admin")
    credentials["stranger"] = (await issue_token(recorder, other_log_id, stranger, "admin")).text
    sessions["stranger"] = await begin_session(db, access, stranger)
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server, cookie_jar=DummyCookieJar()) as client:
        yield Site(client, services, log_id, credentials, sessions)
    access.hasher.close()


@pytest.fixture
async def fleet(site: Site) -> Site:
    """d1 and d2 of model m run 1.0.0; m has releases up to 1.2.0."""
    for name in ("d1", "d2"):
        await site.call("PATCH", f"{P}/devices/{name}", caller="operator", json={"model": "m"})
        await site.report({"version": "1.0.0"}, caller="operator", path=f"{P}/devices/{name}")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        await post(site, "releases", {"model": "m", "version": version})
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

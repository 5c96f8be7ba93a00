"""Fills databases that the tests of the service get copies of.

Making people, devices and releases takes longer than most tests. So it is done once for each back
end, and each test gets the database as it was then.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, NamedTuple, get_args

from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer

from firmtrail import config
from firmtrail.access.roles import Role
from firmtrail.application import app
from firmtrail.database.database import Database
from firmtrail.recording.recorder import Recorder
from tests.fleet import register
from tests.people import (
    add_member,
    add_project,
    add_secret,
    begin_session,
    issue_token,
    new_access,
)
from tests.service.site import P, Site
from tests.serving import SERVING


class People(NamedTuple):
    """Holds the log of the project acme, and the credentials as in `Site`."""

    log_id: int
    credentials: dict[str, str]
    sessions: dict[str, str]


async def with_people(db: Database) -> People:
    """Makes one project with somebody in each role and two devices, and another project."""
    access, recorder = new_access(db), Recorder(db)
    log_id = await add_project(db, access, "acme")
    other_log_id = await add_project(db, access, "other")
    await register(recorder, log_id, "d1", "d2")
    people = People(log_id, {"device": await add_secret(db, access, "acme", "d1")}, {})
    members = [(name, name, log_id) for name in get_args(Role.__value__)]
    for name, role, of_log in (*members, ("stranger", "admin", other_log_id)):
        person = await add_member(recorder, of_log, f"{name}@example.org", role)
        people.credentials[name] = (await issue_token(recorder, of_log, person, role)).text
        people.sessions[name] = await begin_session(db, access, person)
    await recorder.close()
    access.hasher.close()
    return people


async def with_fleet(db: Database) -> People:
    """Lets d1 and d2 of model m run 1.0.0 too, and releases versions of m up to 1.2.0."""
    people, recorder = await with_people(db), Recorder(db)
    async with served(db, recorder, people) as site:
        for name in ("d1", "d2"):
            await _done(site, "PATCH", f"devices/{name}", {"model": "m"})
            await _done(site, "POST", f"devices/{name}/reports", {"version": "1.0.0"})
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            await _done(site, "POST", "releases", {"model": "m", "version": version})
    await recorder.close()
    return people


async def _done(site: Site, method: str, path: str, body: Any) -> None:
    answer = await site.call(method, f"{P}/{path}", caller="operator", json=body)
    assert answer.status in {200, 201}, answer.body


@contextlib.asynccontextmanager
async def served(
    db: Database,
    recorder: Recorder,
    people: People,
    *,
    projects: config.ProjectMakers = "operator",
    **options: Any,
) -> AsyncIterator[Site]:
    """Serves a database that these people are in."""
    access = new_access(db)
    serving = replace(SERVING, seed_project="demo", is_demo=True, projects=projects)
    services = app.services(db, access, recorder, serving, **options)
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    known = (people.log_id, dict(people.credentials), dict(people.sessions))
    async with TestClient(server, cookie_jar=DummyCookieJar()) as client:
        yield Site(client, services, *known)
    access.hasher.close()

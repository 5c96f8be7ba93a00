"""What a server answers about tokens, devices' keys and downloads of a project that has moved."""

from urllib.parse import urlsplit

import pytest

from firmtrail.commands import move_project
from firmtrail.events.log import ProjectMoveStarted
from tests.people import add_member
from tests.service.downloads import BYTES, pin, put
from tests.service.enrolling import let_join
from tests.service.mender_device import MenderDevice
from tests.service.site import D, Site

ADDRESS = "https://eu.example/fleet"
EMAIL, PASSWORD = "admin@example.org", "correct horse"  # of nobody
WANTED = {"project": "acme", "name": "ci"}


@pytest.fixture
async def person(site: Site) -> Site:
    """Returns the site, where a person is logged in as "login"."""
    hashed = await site.services.access.hasher.hash("user", PASSWORD)
    recorder = site.services.recorder
    await add_member(recorder, site.log_id, EMAIL, "admin", password_hash=hashed)
    body = {"email": EMAIL, "password": PASSWORD}
    answer = await site.call("POST", "/api/v1/login", json=body)
    site.credentials["login"] = answer.json["token"]
    return site


async def _move(site: Site) -> None:
    services, wanted = site.services, ProjectMoveStarted("eu", ADDRESS)
    await move_project.start(
        services.db, services.recorder, site.log_id, wanted=wanted, actor="system"
    )
    await move_project.finish(services.db, site.log_id)


async def test_a_request_whose_path_names_no_project_gets_the_address(person: Site) -> None:
    issued = await person.call("POST", "/api/v1/tokens", caller="login", json=WANTED)
    path = f"/api/v1/tokens/{issued.json['id']}"
    await _move(person)
    unseen = await person.call("DELETE", path, caller="login")
    assert (unseen.status, unseen.json["code"]) == (503, "unavailable")
    await person.services.moves.look()
    for answer in (
        await person.call("DELETE", path, caller="login"),
        await person.call("POST", "/api/v1/tokens", caller="login", json=WANTED),
    ):
        assert (answer.status, answer.json["code"]) == (409, "project_moved")
        assert ADDRESS in answer.json["detail"]
        assert "Retry-After" not in answer.headers


async def test_a_device_of_mender_is_admitted_only_where_its_project_is(site: Site) -> None:
    await let_join(site, model="m")
    device = MenderDevice(site, site.credentials["join"])
    assert (await device.authenticate()).status == 200
    await _move(site)
    await site.services.moves.look()
    for known in (device, MenderDevice(site, site.credentials["join"], "new")):
        answer = await known.authenticate()
        assert (answer.status, answer.json["code"]) == (409, "project_moved")
        assert ADDRESS in answer.json["detail"]
    for tenant in ("acme", ""):
        assert (await MenderDevice(site, tenant, "one").authenticate()).status == 401


async def test_a_download_that_was_granted_ends_here(fleet: Site) -> None:
    assert (await put(fleet)).status == 201
    await pin(fleet)
    update = (await fleet.get(f"{D}/update", "device")).json
    url = urlsplit(update["artifacts"][0]["download_url"])
    await _move(fleet)
    await fleet.services.moves.look()
    part = await fleet.call("GET", f"{url.path}?{url.query}", headers={"Range": "bytes=10000-"})
    assert (part.status, part.body) == (206, BYTES[10000:])

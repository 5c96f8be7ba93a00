"""Checks the seed's requests, which are answered with its exact texts."""

import asyncio
from typing import Any

import msgspec
import pytest

from firmtrail.commands import demo as commands
from firmtrail.database.database import Database
from firmtrail.eventstore import log
from firmtrail.projections import fold
from tests.databases import read
from tests.patience import PATIENCE_S
from tests.people import add_member, add_project, recorded
from tests.service.preparing import prepare, revisions
from tests.service.routes import assert_is_problem
from tests.service.site import Site
from tests.serving import Answer

READ = "/get_firmware_updates_by_device_id?email=diegosalcovsky@gmail.com&device_id=1&secret=ABC"


@pytest.fixture
async def demo(site: Site) -> Site:
    assert (await site.call("GET", "/populate_database")).status == 200
    return site


async def upload(site: Site, body: Any) -> Answer:
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return await site.call("POST", "/upload_firmware_update", data=data, headers=headers)


async def versions(site: Site) -> list[str]:
    return [item["version"] for item in (await site.call("GET", READ)).json]


async def test_an_update_is_recorded_once(demo: Site) -> None:
    for _ in range(2):
        answer = await upload(demo, {"device_id": 1, "secret": "AAA", "version": "SemVer1.1"})
        assert (answer.status, answer.body) == (200, b"Successfully updated firmware version")
    updates = (await demo.call("GET", READ)).json
    assert [(item["id"], item["device_id"]) for item in updates] == [(1, 1), (2, 1)]
    assert [item["version"] for item in updates] == ["SemVer1.0", "SemVer1.1"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"device_id": 1, "secret": "AAB", "version": "SemVer1.1"}, 401, b"Invalid Request"),
        ({"device_id": 2, "secret": "AAA", "version": "SemVer1.1"}, 401, b"Invalid Request"),
        ({"device_id": 1, "secret": "AAA"}, 401, b"Invalid Request"),
        ({"secret": "AAA", "version": "SemVer1.1"}, 401, b"Invalid Request"),
        ({"device_id": "1\0", "secret": "AAA", "version": "1.1"}, 401, b"Invalid Request"),
        ({"device_id": 1, "secret": "AAB", "version": "SemVer11"}, 401, b"Invalid Request"),
        (b"not json", 401, b"Invalid Request"),
        (b"\xff", 401, b"Invalid Request"),
        (
            {"device_id": 1, "secret": "AAA", "version": "SemVer11"},
            400,
            b"Version string formatting not valid",
        ),
        (
            {"device_id": 1, "secret": "AAA", "version": 1.1},
            400,
            b"Version string formatting not valid",
        ),
    ],
)
async def test_a_bad_upload_gets_no_more_than_the_seeds_text(
    demo: Site, body: Any, status: int, text: bytes
) -> None:
    answer = await upload(demo, body)
    assert (answer.status, answer.body) == (status, text)
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert await versions(demo) == ["SemVer1.0"]


async def test_the_first_upload_or_list_makes_prepared_views_live(demo: Site, db: Database) -> None:
    log_id = await demo.services.access.project("demo")
    assert log_id is not None
    for number in (1, 2):
        await prepare(demo, db)
        if number == 1:
            await upload(demo, {"device_id": 1, "secret": "AAA", "version": "SemVer1.1"})
        assert (number, await versions(demo)) == (number, ["SemVer1.0", "SemVer1.1"])
        assert await revisions(db, log_id) == fold.REVISIONS


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("secret=ABC", "secret=ABE"), ("device_id=1", "device_id=2"), ("diego", "diega")],
)
async def test_any_wrong_part_reads_nothing(demo: Site, right: str, wrong: str) -> None:
    answer = await demo.call("GET", READ.replace(right, wrong))
    assert (answer.status, answer.body) == (401, b"Invalid request")
    assert "WWW-Authenticate" in answer.headers


async def test_populating_again_starts_a_new_log_and_keeps_the_old_one(demo: Site) -> None:
    await upload(demo, {"device_id": "1", "secret": "AAA", "version": "1.2.3"})
    assert await versions(demo) == ["SemVer1.0", "1.2.3"]
    await asyncio.sleep(commands.PACE_S)
    assert (await demo.call("GET", "/populate_database")).status == 200
    assert await versions(demo) == ["SemVer1.0"]
    again = await upload(demo, {"device_id": 1, "secret": "AAA", "version": "2.0.0-rc.1"})
    assert again.status == 200


async def test_populating_is_limited_to_once_a_second(demo: Site) -> None:
    throttle = demo.services.demo_throttle
    next_s = throttle._next_s
    throttle._clock = lambda: next_s - 0.001
    answers = [await demo.call("GET", "/populate_database") for _ in range(3)]
    for answer in answers:
        assert_is_problem(answer, 429)
        assert answer.headers["Retry-After"] == "1"
    [[logs]] = await read(demo.services.db, "SELECT count(*) FROM log_heads WHERE project = 'demo'")
    assert logs == 1
    throttle._clock = lambda: next_s
    together = [demo.call("GET", "/populate_database") for _ in range(5)]
    assert sorted(each.status for each in await asyncio.gather(*together)) == [200] + [429] * 4


async def test_populating_is_limited_across_several_servers(
    demo: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing the demo's secrets may take longer than a second here."""
    await asyncio.sleep(commands.PACE_S)
    assert (await demo.call("GET", "/populate_database")).status == 200
    monkeypatch.setattr(commands, "PACE_S", PATIENCE_S)
    services = demo.services
    newest = await services.access.project("demo")
    with pytest.raises(commands.TooSoon):
        await commands.populate(services.db, services.access.hasher, "demo", newest)


@pytest.mark.one_back_end
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "Cross-Site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_page_of_another_site_can_not_populate(
    site: Site, method: str, headers: dict[str, str], status: int
) -> None:
    answer = await site.call(method, "/populate_database", headers=headers)
    assert answer.status == status
    assert (await site.services.access.project("demo") is None) == (status == 403)


async def test_a_page_of_this_server_may_populate(site: Site) -> None:
    own = str(site.client.make_url("/")).rstrip("/")
    answer = await site.call("POST", "/populate_database", headers={"Origin": own})
    assert answer.status == 200


async def test_the_demo_leaves_alone_a_project_that_it_did_not_create(site: Site) -> None:
    services = site.services
    log_id = await add_project(services.db, services.access, "demo")
    await add_member(services.recorder, log_id, commands.EMAIL, "admin")
    before = await recorded(services.db, log_id)
    assert_is_problem(await site.call("GET", "/populate_database"), 409)
    assert await services.access.project("demo") == log_id
    assert not (await log.head(services.db, log_id)).closed
    assert await recorded(services.db, log_id) == before


@pytest.mark.parametrize("project", ["acme", "demo"])
async def test_the_demo_sets_no_password_of_a_user_that_existed(site: Site, project: str) -> None:
    services = site.services
    log_id = await services.access.project(project)
    if log_id is None:
        log_id = await add_project(services.db, services.access, project)
    hashed = await services.access.hasher.hash("user", "their own")
    await add_member(services.recorder, log_id, commands.EMAIL, "admin", password_hash=hashed)
    assert_is_problem(await site.call("GET", "/populate_database"), 409)
    for password, status in (("ABC", 401), ("their own", 200)):
        body = {"email": commands.EMAIL, "password": password}
        answer = await site.call("POST", "/api/v1/login", json=body)
        assert answer.status == status
        body["password"] = "their own"
    assert_is_problem(await site.call("GET", "/populate_database"), 429)


async def test_a_new_password_of_the_demos_user_stays(demo: Site) -> None:
    services = demo.services
    log_id = await services.access.project("demo")
    assert log_id is not None
    hashed = await services.access.hasher.hash("user", "their own")
    await add_member(services.recorder, log_id, commands.EMAIL, "admin", password_hash=hashed)
    await asyncio.sleep(commands.PACE_S)
    assert (await demo.call("GET", "/populate_database")).status == 200
    assert (await demo.call("GET", READ)).status == 401

"""A project that moves takes no changes, and is then answered with its new address."""

import asyncio

import pytest

from firmtrail.commands import move_project
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.publishing.minimum_sizes import MinimumSizes
from tests.service.site import D, P, Site

ADDRESS = "https://eu.example/fleet"
SEED_READ = "/get_firmware_updates_by_device_id?email=diegosalcovsky@gmail.com&device_id=1"
REPORT = {"version": "1.0.0", "report_id": "a"}


@pytest.fixture
async def moving(site: Site) -> Site:
    """The project acme, which is being moved; the server has seen that."""
    assert (await site.report(REPORT)).status == 201
    services = site.services
    await move_project.start(
        services.db,
        services.recorder,
        site.log_id,
        wanted=ProjectMoveStarted("eu", ADDRESS),
        actor="system",
    )
    await services.moves.look()
    return site


async def test_reads_continue_and_changes_wait(moving: Site) -> None:
    for path in (D, f"{D}/history", f"{P}/log/key", f"{P}/devices"):
        assert (await moving.get(path)).status == 200
    for method, path, caller in (
        ("POST", f"{D}/reports", "device"),
        ("PUT", f"{D}/attributes", "device"),
        ("POST", f"{P}/releases", "admin"),
        ("DELETE", f"{P}/members/u_1", "admin"),
    ):
        answer = await moving.call(method, path, caller=caller, json={})
        assert (answer.status, answer.json["code"]) == (503, "project_moving"), path
        assert int(answer.headers["Retry-After"]) >= 1
    other = await moving.call("GET", "/api/v1/projects/other/devices", caller="stranger")
    assert other.status == 200


async def test_a_server_that_has_not_seen_the_move_records_nothing(moving: Site) -> None:
    moving.services.moves._leaving = {}
    answer = await moving.report(REPORT | {"report_id": "b"})
    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert (await moving.report(REPORT)).status == 503


async def test_a_moved_project_is_answered_with_its_address(moving: Site) -> None:
    services = moving.services
    await move_project.finish(services.db, moving.log_id)
    await services.moves.look()
    for method, path, caller in (
        ("POST", f"{D}/reports?x=1", "device"),
        ("GET", f"{D}/update", "device"),
        ("GET", f"{P}/events", "admin"),
        ("PATCH", P, "admin"),
        ("DELETE", f"{P}/logs/1/events/0/text", "admin"),
        ("GET", "/console/acme/devices?q=a%20b", "admin"),
    ):
        answer = await moving.call(method, path, caller=caller, json=None)
        assert (answer.status, answer.headers["Location"]) == (308, f"{ADDRESS}{path}"), path
    answer = await moving.get(f"{D}/update", "device")
    assert answer.json["code"] == "project_moved"
    for path in ("key", "checkpoint", "entries"):
        stays = await moving.get(f"{P}/log/{path}")
        assert stays.status != 308, path
    assert (await moving.get(f"{P}/logs/1/key")).status == 200


async def test_a_stranger_does_not_learn_where_a_project_is(moving: Site) -> None:
    await move_project.finish(moving.services.db, moving.log_id)
    await moving.services.moves.look()
    assert (await moving.get(f"{P}/devices", "stranger")).status == 404
    assert (await moving.call("POST", f"{D}/reports", json=REPORT)).status == 401


async def test_a_project_whose_move_is_undone_continues(moving: Site) -> None:
    services = moving.services
    await move_project.undo(services.db, moving.log_id, MinimumSizes(), "system")
    await services.moves.look()
    assert (await moving.report(REPORT)).json["duplicate"] is True
    assert (await moving.report(REPORT | {"report_id": "b"})).status == 201


@pytest.mark.parametrize(
    "target",
    [
        f"http://evil.example{P}/devices?a=%20b",
        f"http://@evil.example{P}/devices?a=%20b",
        f"{P}/devices?a=%20b#@evil.example",
    ],
)
async def test_a_request_does_not_choose_the_host_of_its_new_address(
    moving: Site, target: str
) -> None:
    await move_project.finish(moving.services.db, moving.log_id)
    await moving.services.moves.look()
    credential = moving.credentials["admin"]
    lines = (f"GET {target} HTTP/1.1", "Host: evil.example", f"Authorization: Bearer {credential}")
    reader, writer = await asyncio.open_connection(moving.client.host, moving.client.port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    writer.close()
    assert answer.startswith("HTTP/1.1 308")
    assert f"\r\nLocation: {ADDRESS}{P}/devices?a=%20b\r\n" in answer


async def test_the_seeds_routes_send_on_a_caller_that_they_know(site: Site) -> None:
    services, upload, listed = site.services, "/upload_firmware_update", f"{SEED_READ}&secret=ABC"
    assert (await site.call("GET", "/populate_database")).status == 200
    log_id = await services.access.project("demo")
    assert log_id is not None
    wanted = ProjectMoveStarted("eu", ADDRESS)
    await move_project.start(services.db, services.recorder, log_id, wanted=wanted, actor="system")
    await services.moves.look()
    known, unknown = ({"device_id": 1, "secret": each, "version": "1.1"} for each in ("AAA", "AAB"))
    waits = await site.call("POST", upload, json=known)
    assert (waits.status, waits.json["code"]) == (503, "project_moving")
    assert (await site.call("GET", listed)).status == 200
    await move_project.finish(services.db, log_id)
    await services.moves.look()
    for answer, path in (
        (await site.call("POST", upload, json=known), upload),
        (await site.call("GET", listed), listed),
    ):
        assert (answer.status, answer.headers["Location"]) == (308, f"{ADDRESS}{path}")
    assert (await site.call("POST", upload, json=unknown)).status == 401
    assert (await site.call("GET", f"{SEED_READ}&secret=no")).status == 401

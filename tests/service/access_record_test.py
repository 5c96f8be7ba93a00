"""The access record has every read of the log and every export of a list."""

import re
from typing import Any, NamedTuple

import pytest

from firmtrail.access.roles import PERMISSIONS, ROLES, Role
from firmtrail.application.routes import ROUTES
from firmtrail.commands.erase_user import erase_user
from firmtrail.database.database import Unavailable
from firmtrail.http.api.events import CLOUDEVENT
from firmtrail.http.api.stream import EVENT_STREAM
from firmtrail.http.callers import MemberAccess
from firmtrail.http.respond import NDJSON
from firmtrail.http.route import Route
from tests.service.access_records import records
from tests.service.routes import assert_is_problem, name_of, path_of
from tests.service.site import P, Site
from tests.serving import Answer

PROJECT = "/api/v1/projects/{project}"
READS = [
    route
    for route in ROUTES
    if route.method == "GET"
    and isinstance(route.access, MemberAccess)
    and (route.other_media or route.answers[200] in {NDJSON, CLOUDEVENT, EVENT_STREAM})
]
"""The routes that return entries, or export a list."""
QUERIES = {"/versions/timeline": "?from=2026-01-01T00:00:00Z&step=31622400"}
"""The queries that routes need to return anything."""
TILES = [route for route in ROUTES if "/tile/" in route.path]


class Ids(NamedTuple):
    """Names the things whose routes have an id in the path."""

    rollout: str
    webhook: str

    def path_of(self, route: Route) -> str:
        return path_of(route, id=self.webhook if "/webhooks" in route.path else self.rollout)


@pytest.fixture
async def ids(site: Site) -> Ids:
    """Makes a rollout and a webhook that can be read."""
    found = []
    for path, body in (
        ("/releases", {"model": "m", "version": "1.0.0"}),
        ("/rollouts", {"model": "m", "version": "1.0.0"}),
        ("/webhooks", {"url": "https://1.1.1.1/x"}),
    ):
        answer = await site.call("POST", f"{P}{path}", caller="admin", json=body)
        assert answer.status == 201, answer.body
        found.append(str(answer.json.get("id")))
    return Ids(*found[1:])


async def take(site: Site, route: Route, caller: str, ids: Ids) -> Answer:
    path = ids.path_of(route) + QUERIES.get(route.path.removeprefix(PROJECT), "")
    if route.is_endless:
        return await site.get_begun(path, caller)
    return await site.get(path, caller, Accept=NDJSON)


def may_read(route: Route, role: Role) -> bool:
    assert isinstance(route.access, MemberAccess)
    return route.access.permission in PERMISSIONS[role]


def test_every_route_that_returns_entries_or_exports_a_list_is_a_read() -> None:
    assert {(route.method, route.path.removeprefix(PROJECT)) for route in READS} == {
        ("GET", path)
        for path in (
            "/access-record",
            "/devices",
            "/devices/{device}/asks",
            "/devices/{device}/history",
            "/events",
            "/events/{position}",
            "/log/checkpoints",
            "/logs",
            "/logs/{number}/checkpoints",
            "/logs/{number}/events",
            "/logs/{number}/events/{position}",
            "/members",
            "/releases",
            "/rollouts",
            "/rollouts/{id}/devices",
            "/stream",
            "/tokens",
            "/versions",
            "/versions/timeline",
            "/webhooks",
            "/webhooks/{id}/deliveries",
        )
    }
    assert {route.path.removeprefix(PROJECT) for route in TILES} == {
        "/log/tile/entries/{tile}",
        "/log/tile/{level}/{tile}",
        "/logs/{number}/tile/entries/{tile}",
        "/logs/{number}/tile/{level}/{tile}",
    }


@pytest.mark.parametrize("role", ROLES)
async def test_every_read_by_any_role_is_recorded_and_refused_reads_are_not(
    site: Site, role: Role, ids: Ids
) -> None:
    for route in READS:
        before = len(await records(site))
        answer = await take(site, route, role, ids)
        is_allowed = may_read(route, role)
        assert answer.status == (200 if is_allowed else 403), name_of(route)
        now = await records(site)
        new = now[: len(now) - before]
        if not is_allowed:
            assert not new, name_of(route)
            continue
        [record] = new
        assert record["actor"].startswith("token/t_")
        assert record["path"] == ids.path_of(route).removeprefix(P)
        assert record["request_id"] == answer.headers["X-Request-Id"]


async def test_a_record_names_the_path_and_the_query_of_a_read(site: Site) -> None:
    size = int((await site.get(f"{P}/events?limit=1")).headers["Firmtrail-Log-Size"])
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/events", {"log": 1, "from": 0, "to": size}),
        ("/events?from=2&limit=3&positions=true", {"log": 1, "from": 2, "to": 5, "limit": 3}),
        (
            "/events?stream=device/d1&type=DeviceRegistered",
            {"log": 1, "from": 0, "to": size, "stream": "device/d1", "type": "DeviceRegistered"},
        ),
        ("/events?since=2999-01-01T00:00:00Z", {"log": 1, "from": size, "to": size}),
        ("/events/3", {"log": 1}),
        ("/logs/1/events/3", {"log": 1}),
        ("/devices?model=m&failing=true&q=d", {"model": "m", "failing": True, "q": "d"}),
        ("/devices?failing=false&outdated=false", {"failing": False, "outdated": False}),
        ("/devices/d1/history", {}),
    )
    for path, wanted in asked:
        await site.get(f"{P}{path}", Accept=NDJSON)
        [record, *_] = await records(site)
        assert (record["path"], record["asked"]) == (path.partition("?")[0], wanted)


async def test_a_page_and_an_answer_to_head_are_not_recorded(site: Site, ids: Ids) -> None:
    before = await records(site)
    for path in ("/devices", "/members", "/access-record", "/logs"):
        assert (await site.get(f"{P}{path}")).status == 200
    for route in READS:
        await site.call("HEAD", ids.path_of(route), caller="admin", headers={"Accept": NDJSON})
    assert await records(site) == before


async def test_records_are_found_by_time_and_actor(site: Site) -> None:
    for caller in ("auditor", "admin", "auditor"):
        await site.get(f"{P}/events", caller)
    everything = await records(site)
    [third, second, first] = everything
    assert first["actor"] == third["actor"] != second["actor"]
    assert await records(site, f"&actor={first['actor']}") == [third, first]
    since = [each for each in everything if each["at"] >= second["at"]]
    assert await records(site, f"&since={second['at']}") == since
    assert await records(site, f"&until={second['at']}") == everything[len(since) :]
    assert await records(site, "&until=2000-01-01T00:00:00Z") == []
    page = (await site.get(f"{P}/access-record?limit=2&count=true")).json
    assert (page["items"], page["total"]) == ([third, second], 3)
    rest = (await site.get(f"{P}/access-record?limit=2&count=true&cursor={page['next']}")).json
    assert (rest["items"], rest["next"]) == ([first], None)
    assert_is_problem(await site.get(f"{P}/access-record?actor=nobody@example.org"), 422)


async def test_a_project_does_not_show_the_record_of_another(site: Site) -> None:
    await site.get(f"{P}/events")
    other = await site.get("/api/v1/projects/other/access-record", "stranger")
    assert other.json["items"] == []


async def test_the_record_never_contains_a_secret_or_an_email_address(site: Site, ids: Ids) -> None:
    taken = [(route, "admin") for route in READS]
    taken += [(route, "auditor") for route in READS if may_read(route, "auditor")]
    for route, caller in taken:
        assert (await take(site, route, caller, ids)).status == 200, name_of(route)
    assert len(await records(site)) == len(taken)
    answer = await site.get(f"{P}/access-record?limit=500")
    for text in (*site.credentials.values(), "example.org"):
        assert text.encode() not in answer.body


async def test_an_erased_reader_stays_in_the_record_as_an_id(site: Site) -> None:
    await site.get(f"{P}/events", "auditor")
    [record] = await records(site)
    token = (await site.get(f"{P}/actors/{record['actor'].removeprefix('token/')}")).json
    services = site.services
    await erase_user(services.db, services.recorder, token["holder"], actor="system")
    assert await records(site) == [record]
    after = (await site.get(f"{P}/actors/{token['holder']}")).json
    assert (after["email"], after["roles"][0]["role"]) == (None, "auditor")


async def test_a_read_that_can_not_be_recorded_is_refused(
    site: Site, ids: Ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> None:
        raise Unavailable("the disk is full")

    monkeypatch.setattr(site.services.reads, "add", failing)
    for route in READS:
        assert (await take(site, route, "admin", ids)).status == 503


async def test_tiles_are_recorded_once_a_minute_for_each_reader_and_range(site: Site) -> None:
    for route in TILES * 3:
        path = re.sub(r"{tile}", "000.p/1", route.path).replace("{level}", "0")
        for caller in ("admin", "auditor"):
            answer = await site.get(
                path.replace("{project}", "acme").replace("{number}", "1"), caller
            )
            assert answer.status == 200, path
    found = sorted(
        (each["path"], each["actor"], str(each["asked"])) for each in await records(site)
    )
    asked = str({"log": 1, "from": 0, "to": 65_536})
    assert {(path, wanted) for path, _, wanted in found} == {
        ("/logs/1/tile/0", asked),
        ("/logs/1/tile/entries", asked),
    }
    assert len(found) == 4

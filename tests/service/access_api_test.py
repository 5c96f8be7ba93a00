"""Checks logins, tokens, projects, members and actors over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector, web

from firmtrail.access import projects
from firmtrail.application import app
from tests.databases import read
from tests.people import add_member, new_access, recorded
from tests.service.routes import assert_is_problem
from tests.service.site import P, Site

PASSWORD = "correct horse"


@pytest.fixture
async def person(site: Site) -> Site:
    """Returns the site, where admin@example.org has a password and is logged in as "login"."""
    hashed = await site.services.access.hasher.hash("user", PASSWORD)
    await add_member(
        site.services.recorder, site.log_id, "admin@example.org", "admin", password_hash=hashed
    )
    answer = await log_in(site)
    assert answer.status == 200
    site.credentials["login"] = answer.json["token"]
    return site


async def log_in(site: Site, email: str = "admin@example.org", password: str = PASSWORD) -> Any:
    body = {"email": email, "password": password}
    return await site.call("POST", "/api/v1/login", json=body)


async def post_token(site: Site, caller: str, **members: Any) -> Any:
    body = {"project": "acme", "name": "ci", **members}
    return await site.call("POST", "/api/v1/tokens", caller=caller, json=body)


async def member_id(site: Site, email: str) -> str:
    listed = await site.get(f"{P}/members?limit=500")
    return str(next(each["actor_id"] for each in listed.json["items"] if each["email"] == email))


async def test_a_login_acts_with_the_members_role_in_each_project(person: Site) -> None:
    assert (await person.call("GET", P, caller="login")).status == 200
    listed = await person.call("GET", "/api/v1/projects", caller="login")
    assert [(each["project"], each["role"]) for each in listed.json["items"]] == [("acme", "admin")]
    assert (await person.call("GET", "/api/v1/projects/other", caller="login")).status == 404


async def test_an_unknown_user_a_wrong_password_and_no_password_get_the_same_401(
    person: Site,
) -> None:
    faces = set()
    for email, password in (
        ("admin@example.org", "wrong"),
        ("viewer@example.org", PASSWORD),
        ("unknown@example.org", PASSWORD),
    ):
        answer = await log_in(person, email, password)
        faces.add((answer.status, repr({**answer.json, "request_id": ""})))
    assert len(faces) == 1
    assert faces.pop()[0] == 401


async def test_logins_with_one_key_are_one_login_whose_token_is_shown_once(person: Site) -> None:
    async def log_in(password: str = PASSWORD, key: str = "k1") -> Any:
        body = {"email": "admin@example.org", "password": password}
        headers = {"Idempotency-Key": key}
        return await person.call("POST", "/api/v1/login", json=body, headers=headers)

    first, again = [await log_in() for _ in range(2)]
    assert (first.status, again.json) == (200, first.json | {"token": None})
    assert (await log_in(password="wrong")).status == 401
    assert (await log_in(key="two words")).status == 400
    assert (await log_in(key="k2")).json["token"] != first.json["token"]
    kept = await read(person.services.db, "SELECT fingerprint FROM idempotency_keys LIMIT 9")
    assert len(kept) == 2


async def test_parallel_logins_with_one_key_are_one_login(person: Site) -> None:
    body, headers = {"email": "admin@example.org", "password": PASSWORD}, {"Idempotency-Key": "k"}
    logins = "SELECT count(*) FROM tokens WHERE role IS NULL"
    [[before]] = await read(person.services.db, logins)
    answers = await asyncio.gather(
        *(person.call("POST", "/api/v1/login", json=body, headers=headers) for _ in range(4))
    )
    assert [answer.status for answer in answers] == [200] * 4
    assert sum(answer.json["token"] is not None for answer in answers) == 1
    [[after]] = await read(person.services.db, logins)
    assert after == before + 1


async def test_a_token_is_shown_once_and_works(person: Site) -> None:
    issued = await post_token(person, "login", role="operator")
    assert issued.status == 201
    assert issued.headers["Cache-Control"] == "no-store"
    person.credentials["new"] = issued.json["token"]
    assert (await person.call("GET", P, caller="new")).status == 200
    assert (await person.call("PATCH", P, caller="new", json={})).status == 403
    listed = await person.call("GET", "/api/v1/tokens?count=true", caller="login")
    assert listed.json["total"] == len(listed.json["items"]) == 2
    assert not any("token" in each for each in listed.json["items"])
    assert issued.json["id"] in {each["id"] for each in listed.json["items"]}


async def test_a_token_without_a_role_has_its_issuers_role(person: Site) -> None:
    assert (await post_token(person, "login")).json["role"] == "admin"
    assert (await post_token(person, "operator")).json["role"] == "operator"


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("caller", "members", "status"),
    [
        ("operator", {"role": "admin"}, 403),
        ("viewer", {"role": "gateway"}, 403),
        ("gateway", {"role": "gateway"}, 403),
        ("admin", {"project": "other"}, 404),
        ("admin", {"project": "nowhere"}, 404),
        ("stranger", {}, 404),
        ("device", {}, 403),
        ("admin", {"expires_at": "2020-01-01T00:00:00Z"}, 422),
        ("admin", {"role": "king"}, 422),
    ],
)
async def test_a_token_beyond_the_issuers_rights_is_refused(
    site: Site, caller: str, members: dict[str, str], status: int
) -> None:
    assert (await post_token(site, caller, **members)).status == status


async def test_a_deleted_token_ends_immediately_and_is_not_listed(person: Site) -> None:
    issued = (await post_token(person, "login")).json
    person.credentials["new"] = issued["token"]
    path = f"/api/v1/tokens/{issued['id']}"
    assert (await person.call("DELETE", path, caller="login")).status == 204
    assert (await person.call("GET", P, caller="new")).status == 401
    assert (await person.call("DELETE", path, caller="login")).status == 404


async def test_a_token_ends_neither_a_token_with_more_rights_nor_one_of_another_user(
    person: Site,
) -> None:
    strong = (await post_token(person, "login", role="admin")).json
    weak = (await post_token(person, "login", role="viewer")).json
    person.credentials["weak"] = weak["token"]
    for caller, token, status in (
        ("weak", strong, 403),
        ("operator", strong, 404),
        ("weak", weak, 204),
    ):
        path = f"/api/v1/tokens/{token['id']}"
        assert (await person.call("DELETE", path, caller=caller)).status == status


async def test_the_same_key_gets_the_same_token_without_showing_it_again(person: Site) -> None:
    body, key = {"project": "acme", "role": "viewer"}, {"Idempotency-Key": "k-1"}
    first, second = [
        await person.call("POST", "/api/v1/tokens", caller="login", json=body, headers=key)
        for _ in range(2)
    ]
    assert first.status == second.status == 201
    assert second.json == {**first.json, "token": None}
    body["role"] = "operator"
    other = await person.call("POST", "/api/v1/tokens", caller="login", json=body, headers=key)
    assert (other.status, other.json["code"]) == (409, "key_reused")


@pytest.mark.parametrize("caller", ["login", "admin", "gateway"])
async def test_only_the_operator_creates_projects(person: Site, caller: str) -> None:
    body = {"project": "mine"}
    answer = await person.call("POST", "/api/v1/projects", caller=caller, json=body)
    assert_is_problem(answer, 403)
    assert await projects.count(person.services.db) == 2


async def test_the_operator_creates_projects_over_the_socket(local: ClientSession) -> None:
    async with local.post("/api/v1/projects", json={"project": "mine"}) as response:
        assert response.status == 201


@pytest.mark.parametrize("projects", ["open"])
async def test_the_creator_of_a_project_is_its_admin(person: Site) -> None:
    created = await person.call(
        "POST", "/api/v1/projects", caller="login", json={"project": "mine"}
    )
    assert created.status == 201
    assert created.headers["Location"] == "/api/v1/projects/mine"
    again = await person.call("POST", "/api/v1/projects", caller="login", json={"project": "mine"})
    assert (again.status, again.json["code"]) == (409, "project_exists")
    path = "/api/v1/projects/mine"
    assert (await person.call("GET", path, caller="login")).json == created.json
    changed = await person.call("PATCH", path, caller="login", json={"poll_after_s": 60})
    assert changed.json == {**created.json, "poll_after_s": 60}
    assert (await person.call("GET", path, caller="admin")).status == 404


@pytest.mark.parametrize("projects", ["open"])
async def test_an_api_token_can_not_create_a_project(site: Site) -> None:
    body = {"project": "mine"}
    assert (await site.call("POST", "/api/v1/projects", caller="admin", json=body)).status == 403


async def test_settings_change_only_from_the_state_that_was_read(site: Site) -> None:
    etag = (await site.get(P)).headers["ETag"]
    match = {"If-Match": etag}
    change = {"max_attempts": 7}
    first = await site.call("PATCH", P, caller="admin", json=change, headers=match)
    assert (first.status, first.json["max_attempts"]) == (200, 7)
    assert (await site.call("PATCH", P, caller="admin", json=change, headers=match)).status == 412


async def test_settings_that_do_not_change_are_not_recorded(site: Site) -> None:
    before = await recorded(site.services.db, site.log_id)
    same = {"max_attempts": 3, "follow_latest": False}
    assert (await site.call("PATCH", P, caller="admin", json=same)).status == 200
    assert await recorded(site.services.db, site.log_id) == before


async def test_a_member_is_added_changes_role_and_is_removed(site: Site) -> None:
    body = {"email": "New@example.org", "role": "viewer"}
    added = await site.call("POST", f"{P}/members", caller="admin", json=body)
    assert added.status == 201
    assert added.json["email"] == "new@example.org"
    body["role"] = "operator"
    changed = await site.call("POST", f"{P}/members", caller="admin", json=body)
    assert (changed.status, changed.json) == (200, {**added.json, "role": "operator"})
    path = f"{P}/members/{added.json['actor_id']}"
    assert (await site.call("DELETE", path, caller="admin")).status == 204
    assert (await site.call("DELETE", path, caller="admin")).status == 404
    actor = (await site.get(f"{P}/actors/{added.json['actor_id']}")).json
    assert [each["role"] for each in actor["roles"]] == ["viewer", "operator", None]
    assert (actor["kind"], actor["email"]) == ("user", "new@example.org")


async def test_the_last_admin_can_not_be_removed(site: Site) -> None:
    admin = await member_id(site, "admin@example.org")
    removed = await site.call("DELETE", f"{P}/members/{admin}", caller="admin")
    assert (removed.status, removed.json["code"]) == (409, "last_admin")


async def test_members_are_listed_in_pages(site: Site) -> None:
    seen, path = [], f"{P}/members?limit=2&count=true"
    while path:
        page = (await site.get(path)).json
        assert page["total"] == 5
        seen += [each["email"] for each in page["items"]]
        path = page["next"] and f"{P}/members?limit=2&count=true&cursor={page['next']}"
    assert len(seen) == len(set(seen)) == 5


async def test_an_actor_that_is_a_token_is_shown_with_its_holder(person: Site) -> None:
    issued = (await post_token(person, "login", role="viewer")).json
    await person.call("DELETE", f"/api/v1/tokens/{issued['id']}", caller="login")
    actor = (await person.get(f"{P}/actors/{issued['id']}")).json
    assert (actor["kind"], actor["email"]) == ("token", "admin@example.org")
    assert [each["role"] for each in actor["roles"]] == ["viewer", None]


@pytest.mark.parametrize("actor_id", ["u_none", "t_none", "system", "%00"])
async def test_an_actor_that_the_log_does_not_name_is_not_found(site: Site, actor_id: str) -> None:
    assert (await site.get(f"{P}/actors/{actor_id}")).status == 404


@pytest.fixture
async def local(site: Site, tmp_path: Path) -> AsyncIterator[ClientSession]:
    """Yields a client over the local socket of the same service."""
    path = str(tmp_path / "s")
    access = new_access(site.services.db, local_socket=path)
    services = app.services(site.services.db, access, site.services.recorder, site.services.serving)
    runner = web.AppRunner(app.build(services))
    await runner.setup()
    await web.UnixSite(runner, path).start()
    async with ClientSession("http://local", connector=UnixConnector(path)) as session:
        yield session
    await runner.cleanup()
    access.hasher.close()


async def test_a_caller_over_the_socket_is_the_system_in_every_project(
    site: Site, local: ClientSession
) -> None:
    async with local.get("/api/v1/projects") as response:
        assert [each["project"] for each in (await response.json())["items"]] == ["acme", "other"]
    async with local.patch(P, json={"max_attempts": 9}) as response:
        assert response.status == 200
    async with local.get("/api/v1/projects/nowhere") as response:
        assert response.status == 404


async def test_a_user_gets_a_password_and_a_token_over_the_socket(
    site: Site, local: ClientSession
) -> None:
    body = {"email": "op@example.org", "role": "operator", "password": PASSWORD}
    async with local.post("/local/projects/acme/users", json=body) as response:
        assert response.status == 201
    assert (await log_in(site, "op@example.org")).status == 200
    async with local.post(
        "/local/projects/acme/tokens", json={"email": "op@example.org"}
    ) as response:
        issued = await response.json()
        assert (response.status, issued["role"]) == (201, "operator")
    site.credentials["new"] = issued["token"]
    assert (await site.call("GET", P, caller="new")).status == 200
    wanted = {"email": "op@example.org", "role": "admin"}
    async with local.post("/local/projects/acme/tokens", json=wanted) as response:
        assert response.status == 403


async def test_a_person_is_erased_over_the_socket(person: Site, local: ClientSession) -> None:
    admin = await member_id(person, "admin@example.org")
    body = {"email": "admin@example.org"}
    async with local.post("/local/erasures", json=body) as response:
        assert response.status == 204
    for caller in ("login", "admin"):
        assert (await person.call("GET", P, caller=caller)).status == 401
    assert (await log_in(person)).status == 401
    actor = (await person.get(f"{P}/actors/{admin}", caller="viewer")).json
    assert (actor["email"], actor["roles"][-1]["role"]) == (None, None)
    assert actor["erased_at"] is not None
    async with local.post("/local/erasures", json=body) as response:
        assert response.status == 404

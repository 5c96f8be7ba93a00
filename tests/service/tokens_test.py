"""Checks tokens and logins: lifetimes of tokens and their children, and who lists and ends them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from firmtrail.access.roles import Role
from firmtrail.application.routes import ROUTES
from firmtrail.events.access import TokenRevoked
from firmtrail.http.callers import UserAccess
from firmtrail.http.respond import NDJSON
from tests.databases import read
from tests.people import add_member, recorded
from tests.service.site import D, P, Site
from tests.serving import Answer

PASSWORD = "correct horse"
ME = "/api/v1"


async def log_in(site: Site, name: str, email: str, role: Role) -> str:
    """Gives this person a password and this role, and logs in as the caller `name`."""
    hashed = await site.services.access.hasher.hash("user", PASSWORD)
    actor_id = await add_member(
        site.services.recorder, site.log_id, email, role, password_hash=hashed
    )
    await log_in_again(site, name, email)
    return actor_id


async def log_in_again(site: Site, name: str, email: str) -> None:
    body = {"email": email, "password": PASSWORD}
    site.credentials[name] = (await site.call("POST", f"{ME}/login", json=body)).json["token"]


@pytest.fixture
async def person(site: Site) -> Site:
    """Returns the site, where admin@example.org is logged in as "login"."""
    await log_in(site, "login", "admin@example.org", "admin")
    return site


async def issue(site: Site, caller: str, name: str, **members: Any) -> dict[str, Any]:
    """Issues a token as this caller; the token becomes the caller `name`."""
    body = {"project": "acme", "name": name, **members}
    answer = await site.call("POST", f"{ME}/tokens", caller=caller, json=body)
    assert answer.status == 201, answer.body
    issued: dict[str, Any] = answer.json
    site.credentials[name] = issued["token"]
    return issued


async def end(site: Site, path: str, caller: str) -> int:
    return (await site.call("DELETE", path, caller=caller)).status


async def works(site: Site, *callers: str) -> list[bool]:
    return [(await site.get(P, caller)).status == 200 for caller in callers]


def pass_seconds(site: Site, seconds: float) -> None:
    """Puts the service's clock forward, by which credentials expire."""
    site.services.access._clock = lambda: time.time() + seconds


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


@pytest.mark.parametrize("wanted", [{}, {"expires_at": None}, {"expires_at": soon(86_400)}])
async def test_a_token_issued_by_a_token_expires_with_it(
    person: Site, wanted: dict[str, Any]
) -> None:
    parent = await issue(person, "login", "parent", expires_at=soon(600))
    child = await issue(person, "parent", "child", **wanted)
    grandchild = await issue(person, "child", "grandchild", **wanted)
    assert parent["expires_at"] == child["expires_at"] == grandchild["expires_at"]
    assert (child["issued_by"], grandchild["issued_by"]) == (parent["id"], child["id"])
    earlier = await issue(person, "parent", "earlier", expires_at=soon(300))
    assert earlier["expires_at"] < parent["expires_at"]
    assert all(await works(person, "parent", "child", "grandchild"))
    pass_seconds(person, 601)
    assert not any(await works(person, "parent", "child", "grandchild"))


async def test_a_token_issued_by_a_token_is_revoked_with_it(person: Site) -> None:
    parent = await issue(person, "login", "parent")
    names = ("child", "grandchild", "sibling", "apart")
    issuers = ("parent", "child", "parent", "login")
    issued = [await issue(person, by, name) for by, name in zip(issuers, names, strict=True)]
    assert await end(person, f"{ME}/tokens/{parent['id']}", "login") == 204
    assert await works(person, "parent", *names) == [False, False, False, False, True]
    ended = [
        event
        for _, event in await recorded(person.services.db, person.log_id)
        if isinstance(event, TokenRevoked)
    ]
    expected = {parent["id"], *(each["id"] for each in issued[:3])}
    assert {each.token_id for each in ended} == expected
    assert len(ended) == 4


async def test_a_token_may_end_itself_and_the_tokens_that_it_issued(person: Site) -> None:
    parent = await issue(person, "login", "parent")
    await issue(person, "parent", "child")
    assert await end(person, f"{ME}/tokens/{parent['id']}", "parent") == 204
    assert await works(person, "parent", "child", "login") == [False, False, True]


async def test_a_token_issued_by_a_token_may_do_no_more_than_it(person: Site) -> None:
    await issue(person, "login", "weak", role="viewer")
    for role in ("operator", "admin", "auditor", "gateway"):
        body = {"project": "acme", "role": role}
        answer = await person.call("POST", f"{ME}/tokens", caller="weak", json=body)
        assert answer.status == 403, role
    assert (await issue(person, "weak", "child"))["role"] == "viewer"


async def test_a_token_issued_while_its_issuer_is_ended_ends_too(person: Site) -> None:
    parent = await issue(person, "login", "parent")
    body = {"project": "acme", "name": "child"}
    answers = await asyncio.gather(
        *(person.call("POST", f"{ME}/tokens", caller="parent", json=body) for _ in range(5)),
        person.call("DELETE", f"{ME}/tokens/{parent['id']}", caller="login"),
        *(person.call("POST", f"{ME}/tokens", caller="parent", json=body) for _ in range(5)),
    )
    for answer in answers:
        if answer.status == 201:
            person.credentials["child"] = answer.json["token"]
            assert await works(person, "child") == [False]
        else:
            assert answer.status in {204, 401, 403, 404}


async def test_a_token_outlives_the_login_that_issued_it(person: Site) -> None:
    issued = await issue(person, "login", "ci")
    assert (issued["issued_by"], issued["expires_at"]) == (None, None)
    assert (await person.call("POST", f"{ME}/logout", caller="login")).status == 204
    assert await works(person, "login", "ci") == [False, True]


async def test_a_logout_ends_one_login_and_no_api_token(person: Site) -> None:
    await log_in_again(person, "other", "admin@example.org")
    assert (await person.call("POST", f"{ME}/logout", caller="login")).status == 204
    assert (await person.call("POST", f"{ME}/logout", caller="login")).status == 401
    assert await works(person, "login", "other") == [False, True]
    for caller, status in (("admin", 403), ("gateway", 403), ("device", 403), (None, 401)):
        assert (await person.call("POST", f"{ME}/logout", caller=caller)).status == status
    assert await works(person, "admin") == [True]


async def test_logins_are_listed_and_ended_by_their_holder(person: Site) -> None:
    await log_in_again(person, "other", "admin@example.org")
    await log_in(person, "operator login", "operator@example.org", "operator")
    listed = (await person.get(f"{ME}/logins?count=true", "login")).json
    assert listed["total"] == len(listed["items"]) == 2
    [mine] = [each for each in listed["items"] if each["current"]]
    [other] = [each for each in listed["items"] if not each["current"]]
    assert set(mine) == {"id", "kind", "created_at", "expires_at", "last_seen_at", "current"}
    assert (mine["kind"], mine["last_seen_at"]) == ("token", None)
    path = f"{ME}/logins/{other['id']}"
    for caller, status in (("operator login", 404), ("admin", 403), ("login", 204), ("login", 404)):
        assert await end(person, path, caller) == status, caller
    assert await works(person, "login", "other", "operator login") == [True, False, True]
    token = await issue(person, "login", "ci")
    assert await end(person, f"{ME}/logins/{token['id']}", "login") == 404
    assert await works(person, "ci") == [True]


async def test_an_admin_lists_every_token_and_login_of_the_members(person: Site) -> None:
    operator = await log_in(person, "operator login", "operator@example.org", "operator")
    mine = await issue(person, "operator login", "mine")
    await issue(person, "mine", "child")
    answer = await person.get(f"{P}/tokens?limit=500&count=true")
    items = answer.json["items"]
    assert answer.json["total"] == len(items) == 5 + 2 + 3 + 2, (
        "tokens of roles, logins, sessions, and what the test issued"
    )
    held = {(each["name"], each["kind"]): each for each in items if each["holder"] == operator}
    assert set(held) == {
        ("for a test", "token"),
        ("mine", "token"),
        ("child", "token"),
        ("login", "login"),
    }
    child, login = held["child", "token"], held["login", "login"]
    assert (child["issued_by"], child["email"]) == (mine["id"], "operator@example.org")
    assert (login["role"], login["issued_by"]) == (None, None)
    for text in person.credentials.values():
        assert text.encode() not in answer.body
    assert len((await person.get(f"{P}/tokens", Accept=NDJSON)).body.splitlines()) == 12
    for caller in ("viewer", "operator", "auditor", "gateway", "device"):
        assert (await person.get(f"{P}/tokens", caller)).status == 403, caller
    assert (await person.get(f"{P}/tokens", "stranger")).status == 404


async def test_an_admin_ends_any_token_and_login_of_the_members(person: Site) -> None:
    await log_in(person, "operator login", "operator@example.org", "operator")
    parent = await issue(person, "operator login", "parent")
    await issue(person, "parent", "child")
    listed = (await person.get(f"{P}/tokens?limit=500")).json["items"]
    [login] = [
        each["id"]
        for each in listed
        if each["kind"] == "login" and each["email"] == "operator@example.org"
    ]
    for token_id in (parent["id"], login):
        path = f"{P}/tokens/{token_id}"
        for caller, status in (("operator", 403), ("stranger", 404), ("admin", 204)):
            assert await end(person, path, caller) == status
        assert await end(person, path, "admin") == 404
    assert await works(person, "parent", "child", "operator login") == [False] * 3
    actor = (await person.get(f"{P}/actors/{login}")).json
    assert [each["role"] for each in actor["roles"]] == [None]


async def test_tokens_of_another_project_are_neither_listed_nor_ended(person: Site) -> None:
    other = await person.services.access.project("other")
    assert other is not None
    recorder = person.services.recorder
    await add_member(recorder, other, "admin@example.org", "operator")
    elsewhere = {"project": "other", "name": "elsewhere"}
    answer = await person.call("POST", f"{ME}/tokens", caller="login", json=elsewhere)
    person.credentials["elsewhere"] = answer.json["token"]
    listed = (await person.get(f"{P}/tokens?limit=500")).json["items"]
    assert answer.json["id"] not in {each["id"] for each in listed}
    assert "stranger@example.org" not in {each["email"] for each in listed}
    assert await end(person, f"{P}/tokens/{answer.json['id']}", "admin") == 404
    assert (await person.get("/api/v1/projects/other", "elsewhere")).status == 200


async def test_expired_and_ended_tokens_are_not_listed(person: Site) -> None:
    await issue(person, "login", "short", expires_at=soon(600))
    ended = await issue(person, "login", "ended")
    assert await end(person, f"{P}/tokens/{ended['id']}", "admin") == 204
    pass_seconds(person, 601)
    names = {each["name"] for each in (await person.get(f"{P}/tokens?limit=500")).json["items"]}
    assert names == {"for a test", "login", "console"}


USER_ROUTES: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/tokens", None),
    ("POST", "/tokens", {"project": "acme", "role": "gateway"}),
    ("DELETE", "/tokens/t_x", None),
    ("GET", "/projects", None),
    ("POST", "/projects", {"project": "mine"}),
    ("GET", "/logins", None),
    ("DELETE", "/logins/t_x", None),
    ("POST", "/logout", None),
)


def test_the_routes_of_users_are_these() -> None:
    table = {
        (str(route.method), route.path.removeprefix(ME))
        for route in ROUTES
        if isinstance(route.access, UserAccess)
    }
    tried = {(method, path.replace("t_x", "{id}")) for method, path, _ in USER_ROUTES}
    assert tried == table


async def test_a_member_with_the_role_gateway_has_it_with_a_login_too(site: Site) -> None:
    await log_in(site, "by login", "gateway@example.org", "gateway")
    await log_in(site, "demoted", "demoted@example.org", "viewer")
    await issue(site, "demoted", "demoted token")
    await add_member(site.services.recorder, site.log_id, "demoted@example.org", "gateway")
    for caller in ("gateway", "by login", "demoted", "demoted token"):
        for method, path, body in USER_ROUTES:
            answer = await site.call(method, f"{ME}{path}", caller=caller, json=body)
            assert answer.status == 403, (caller, method, path)
        assert (await site.get(f"{P}/members", caller)).status == 403
    for caller in ("by login", "demoted"):
        assert (await site.report({"version": "1.4.0"}, caller=caller)).status in {200, 201}
    assert (await site.report({"version": "1.4.0"}, caller="demoted token")).status == 403


async def test_a_gateway_that_has_another_role_elsewhere_is_a_gateway_only_here(site: Site) -> None:
    actor_id = await log_in(site, "login", "gateway@example.org", "gateway")
    other = await site.services.access.project("other")
    assert other is not None
    assert actor_id == await add_member(
        site.services.recorder, other, "gateway@example.org", "viewer"
    )
    assert (await site.get(f"{ME}/projects", "login")).status == 200

    async def ask(project: str) -> Answer:
        return await site.call("POST", f"{ME}/tokens", caller="login", json={"project": project})

    assert [(await ask(each)).status for each in ("acme", "other")] == [403, 201]


async def test_ids_of_people_and_credentials_reveal_no_time(person: Site) -> None:
    ids = set()
    for number in range(20):
        body = {"email": f"n{number}@example.org", "role": "viewer"}
        made = await person.call("POST", f"{P}/members", caller="admin", json=body)
        ids.add(made.json["actor_id"])
        ids.add((await issue(person, "login", "ci"))["id"])
        await person.call("POST", f"{D}/secret", caller="admin", json={})
        await log_in_again(person, "login", "admin@example.org")
    db = person.services.db
    for table, column in (("tokens", "token_id"), ("users", "actor_id")):
        ids |= {each for [each] in await read(db, f"SELECT {column} FROM {table} LIMIT 500")}
    ids |= {each for [each] in await read(db, "SELECT secret_id FROM device_secrets LIMIT 9")}
    parts = [each.partition("_")[2] for each in ids]
    assert len(parts) > 60
    assert all(len(part) == 32 and part[12] == "4" for part in parts)
    assert len({part[:8] for part in parts}) == len(parts)

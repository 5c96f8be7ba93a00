"""Checks the pages on which people see and change who may do what, with every role."""

import re
from typing import get_args

import pytest
from markupsafe import escape

from firmtrail.access.roles import Role
from firmtrail.commands import access as commands
from tests.people import add_member, issue_token
from tests.service.site import CONSOLE, P, Site

ACCESS = f"{CONSOLE}/acme/access"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</textarea><b>bold</b>",
    "{{ 7 * 7 }}{% raw %}",
    "\N{RIGHT-TO-LEFT OVERRIDE}txt.exe\N{POP DIRECTIONAL FORMATTING}",
    "\N{RIGHT-TO-LEFT ISOLATE}unclosed",
    "e" + "\N{COMBINING ACUTE ACCENT}" * 60,
    "W" * 64,
    "\N{ZERO WIDTH JOINER}" * 64,
    "javascript:alert(1)",
)


async def shown(site: Site, caller: str, path: str = ACCESS) -> str:
    answer = await site.get(path, caller)
    assert answer.status == 200, answer.body
    return answer.body.decode()


async def actor_of(site: Site, role: str) -> str:
    listed = (await site.get(f"{P}/members?limit=500")).json["items"]
    return str(next(each["actor_id"] for each in listed if each["role"] == role))


@pytest.mark.one_back_end
@pytest.mark.parametrize("role", [each for each in get_args(Role.__value__) if each != "gateway"])
async def test_a_person_sees_the_controls_of_the_role_and_no_other(site: Site, role: str) -> None:
    page = await shown(site, role)
    for email in ("viewer@example.org", "admin@example.org"):
        assert email in page
    is_admin = role == "admin"
    assert ("Add a member" in page) == is_admin
    assert ("Remove…" in page) == is_admin
    assert ("All tokens and sessions" in page) == is_admin
    assert "Issue a token" in page
    offered = set(re.findall(r"<option value=\"(\w+)\"", page.partition("Issue a token")[2]))
    assert ("admin" in offered) == is_admin


async def test_an_admin_adds_a_member_changes_the_role_and_removes_it(site: Site) -> None:
    added = await site.post(f"{ACCESS}/members", email="New@example.org", role="viewer")
    assert (added.status, added.headers["Location"]) == (303, ACCESS)
    assert "new@example.org" in await shown(site, "viewer")
    listed = (await site.get(f"{P}/members?limit=500")).json["items"]
    [member] = [each for each in listed if each["email"] == "new@example.org"]
    path = f"{ACCESS}/members/{member['actor_id']}"
    assert (await site.post(f"{path}/role", role="operator")).status == 303
    await issue_token(site.services.recorder, site.log_id, member["actor_id"], "operator")
    asked = await shown(site, "admin", f"{path}/remove")
    assert "new@example.org can no longer" in asked
    assert "<b>1</b>" in asked
    key = dict(re.findall(r'name="(\w+)" value="([^"]+)"', asked))["key"]
    for _ in range(2):  # a form that is sent twice is done once
        assert (await site.post(f"{path}/remove", key=key)).status == 303
    assert "new@example.org" not in await shown(site, "viewer")
    assert (await site.get(f"{path}/remove")).status == 404
    log = (await site.get(f"{P}/events", "admin")).body.decode()
    admin = await actor_of(site, "admin")
    assert f'"actor":"user/{admin}"' in log.splitlines()[-1], "the log names who removed"


async def test_a_project_keeps_its_last_admin(site: Site) -> None:
    admin = await actor_of(site, "admin")
    answer = await site.post(f"{ACCESS}/members/{admin}/role", role="viewer")
    assert answer.status == 409
    assert "A project keeps at least one admin." in answer.body.decode()


async def test_a_role_may_change_only_what_it_is_shown(site: Site) -> None:
    viewer, admin = await actor_of(site, "viewer"), await actor_of(site, "admin")
    for caller in ("viewer", "operator", "auditor", "gateway"):
        for path, fields in (
            ("/members", {"email": "x@example.org", "role": "viewer"}),
            (f"/members/{viewer}/role", {"role": "admin"}),
            (f"/members/{viewer}/remove", {}),
        ):
            assert (await site.post(f"{ACCESS}{path}", caller, **fields)).status == 403
        assert (await site.get(f"{ACCESS}/members/{admin}/remove", caller)).status == 403
    assert (await site.get(ACCESS, "stranger")).status == 404
    assert (await site.get(ACCESS, "gateway")).status == 403


async def test_a_token_is_shown_once_and_works(site: Site) -> None:
    answer = await site.post(
        f"{ACCESS}/tokens", "operator", name="ci", role="viewer", expires="2999-12-31"
    )
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    [text] = re.findall(r"ftt_[\w-]+", answer.body.decode())
    site.credentials["new"] = text
    assert (await site.get(f"{P}/devices", "new")).status == 200
    page = await shown(site, "operator")
    assert text not in page
    assert ">ci<" in page.replace("<bdi>", "").replace("</bdi>", "")


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("caller", "fields", "status"),
    [
        ("viewer", {"role": "operator"}, 403),
        ("operator", {"role": "admin"}, 403),
        ("viewer", {"role": "nobody"}, 422),
        ("viewer", {}, 422),
        ("viewer", {"role": "viewer", "expires": "2020-01-01"}, 422),
        ("viewer", {"role": "viewer", "expires": "tomorrow"}, 422),
        ("viewer", {"role": "viewer", "expires": "9999-12-31"}, 422),
        ("viewer", {"role": "viewer", "name": "x" * 65}, 422),
        ("stranger", {"role": "viewer"}, 404),
    ],
)
async def test_a_token_does_no_more_than_its_holder_and_ends_in_the_future(
    site: Site, caller: str, fields: dict[str, str], status: int
) -> None:
    assert (await site.post(f"{ACCESS}/tokens", caller, **fields)).status == status


@pytest.mark.parametrize("expires", ["2020-01-01", "9999-12-31"])
async def test_the_page_names_the_field_whose_day_is_refused(site: Site, expires: str) -> None:
    answer = await site.post(f"{ACCESS}/tokens", "viewer", role="viewer", expires=expires)
    assert b"<code>expires</code>: " in answer.body


async def test_a_person_ends_an_own_token_and_an_admin_every_token(site: Site) -> None:
    viewer = await actor_of(site, "viewer")
    issued = [
        (await issue_token(site.services.recorder, site.log_id, viewer, "viewer")).token.token_id
        for _ in range(2)
    ]
    for token_id, caller in zip(issued, ("viewer", "admin"), strict=True):
        path = f"{ACCESS}/tokens/{token_id}/end"
        assert (await site.get(path, "operator")).status == 404
        assert (await site.post(path, "operator")).status == 404
        assert "acts as viewer" in await shown(site, caller, path)
        assert (await site.post(path, caller)).status == 303
        assert (await site.get(path, caller)).status == 404


async def test_a_person_ends_own_sessions_and_an_admin_those_of_members(site: Site) -> None:
    path = f"{ACCESS}/sessions"
    [session] = re.findall(rf"{path}/(\w+)/end", await shown(site, "viewer")) or [""]
    assert session == "", "the one in use is signed out instead"
    assert 'action="/console/sign-out"' in await shown(site, "viewer")
    listed = (await site.get(f"{P}/tokens?limit=500")).json["items"]
    viewer = await actor_of(site, "viewer")
    [login] = [each for each in listed if each["kind"] == "login" and each["holder"] == viewer]
    assert (await site.post(f"{path}/{login['id']}/end", "operator")).status == 404
    assert (await site.get(CONSOLE, "viewer")).status == 200
    assert (await site.post(f"{ACCESS}/tokens/{login['id']}/end", "admin")).status == 303
    assert (await site.get(CONSOLE, "viewer")).status == 303


@pytest.mark.one_back_end
@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_names_and_addresses_are_text(site: Site, text: str) -> None:
    """What people name is escaped, and isolated so that it turns no text around it."""
    name = text[:64]
    admin = await actor_of(site, "admin")
    wanted = commands.TokenRequest(admin, name, "viewer")
    issue = commands.issue_token(wanted, frozenset({"read"}), actor="system")
    issued = await site.services.recorder.act(site.log_id, issue)
    page = await shown(site, "admin")
    isolated = name.replace("\N{RIGHT-TO-LEFT ISOLATE}", "\N{REPLACEMENT CHARACTER}")
    assert page.count(f"<bdi>{escape(isolated)}</bdi>") == 2
    ending = await shown(site, "admin", f"{ACCESS}/tokens/{issued.token.token_id}/end")
    for each in (page, ending):
        assert re.findall(r"<script(?! src=)|<img|<b>bold|<\w[^>]*\son\w+=", each) == []


async def test_a_hostile_address_is_text(site: Site) -> None:
    email = "a<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}@evil.example"
    await add_member(site.services.recorder, site.log_id, email, "viewer")
    page = await shown(site, "admin")
    assert "<script>alert" not in page
    assert f"<bdi>{escape(email)}</bdi>" in page

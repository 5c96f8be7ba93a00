"""Checks how people sign in and out, what their cookie is good for, and what ends a session."""

import re
from http.cookies import SimpleCookie
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.access import sessions
from firmtrail.application import app
from firmtrail.commands import access as commands
from firmtrail.commands.erase_user import erase_user
from firmtrail.http.sessions import COOKIE, SECURE_COOKIE, own_path
from tests.databases import read
from tests.people import add_member, new_access
from tests.service.site import CONSOLE, P, Site
from tests.serving import Answer

EMAIL, PASSWORD = "admin@example.org", "correct horse"
SIGN_IN, SIGN_OUT, FLEET = f"{CONSOLE}/sign-in", f"{CONSOLE}/sign-out", f"{CONSOLE}/acme"


@pytest.fixture
async def person(site: Site) -> Site:
    """Returns the site, where admin@example.org has a password."""
    await new_password(site, PASSWORD)
    return site


async def new_password(site: Site, password: str) -> str:
    hashed = await site.services.access.hasher.hash("user", password)
    return await add_member(
        site.services.recorder, site.log_id, EMAIL, "admin", password_hash=hashed
    )


async def sign_in(site: Site, **fields: str) -> Answer:
    """Sends the form as a program that is no browser does, without a cookie."""
    typed = {"email": EMAIL, "password": PASSWORD} | fields
    async with site.client.post(SIGN_IN, data=typed, allow_redirects=False) as response:
        return Answer(response.status, response.headers, await response.read())


def given(answer: Answer) -> Any:
    """Returns the cookie that the answer sets."""
    cookies = SimpleCookie(answer.headers["Set-Cookie"])
    [cookie] = cookies.values()
    return cookie


def signed_in(site: Site, answer: Answer, name: str = "me") -> str:
    """Makes the session the one of this caller."""
    site.sessions[name] = given(answer).value
    return name


async def status(site: Site, path: str, caller: str) -> int:
    return (await site.get(path, caller)).status


async def test_signing_in_begins_a_session_that_opens_pages(person: Site) -> None:
    answer = await sign_in(person)
    assert (answer.status, answer.headers["Location"]) == (303, CONSOLE)
    assert answer.headers["Cache-Control"] == "no-store"
    me = signed_in(person, answer)
    html = (await person.get(FLEET, me)).body.decode()
    assert EMAIL in html
    assert f'action="{SIGN_OUT}"' in html


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(person: Site) -> None:
    cookie = given(await sign_in(person))
    assert (cookie.key, cookie["path"], cookie["domain"]) == (COOKIE, "/", "")
    assert (cookie["httponly"], cookie["samesite"], cookie["secure"]) == (True, "Lax", "")
    assert len(cookie.value) == 43, "256 bits in base64url"


@pytest.mark.parametrize("host", ["fleet.example", "192.168.1.5:8080", "[2001:db8::1]:80"])
async def test_a_cookie_of_another_host_than_this_machine_is_bound_to_it(
    person: Site, host: str
) -> None:
    typed = {"email": EMAIL, "password": PASSWORD}
    async with person.client.post(
        SIGN_IN, data=typed, headers={"Host": host}, allow_redirects=False
    ) as response:
        cookie = given(Answer(response.status, response.headers, b""))
    assert (cookie.key, cookie["secure"], cookie["path"]) == (SECURE_COOKIE, True, "/")
    for name, expected in ((SECURE_COOKIE, 200), (COOKIE, 303)):
        sent = {"Host": host, "Cookie": f"{name}={cookie.value}"}
        assert (await person.call("GET", CONSOLE, headers=sent)).status == expected


@pytest.mark.one_back_end
@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:80", "[::1]:8080"])
async def test_on_this_machine_the_plain_cookie_counts(site: Site, host: str) -> None:
    sent = {"Host": host, "Cookie": f"{COOKIE}={site.sessions['admin']}"}
    assert (await site.call("GET", CONSOLE, headers=sent)).status == 200


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("fields", "expected", "words"),
    [
        ({"password": "wrong"}, 401, "The e-mail address or the password is wrong."),
        ({"email": "nobody@example.org"}, 401, "The e-mail address or the password is wrong."),
        ({"email": "viewer@example.org"}, 401, "The e-mail address or the password is wrong."),
        ({"email": "no address"}, 401, "The e-mail address or the password is wrong."),
        ({"email": ""}, 422, "Enter your e-mail address and your password."),
        ({"password": ""}, 422, "Enter your e-mail address and your password."),
    ],
)
async def test_a_failed_attempt_is_answered_with_a_sentence_and_the_form(
    person: Site, fields: dict[str, str], expected: int, words: str
) -> None:
    answer = await sign_in(person, **fields)
    assert answer.status == expected
    assert "Set-Cookie" not in answer.headers
    assert "WWW-Authenticate" not in answer.headers, "a browser would show its own dialog"
    html = answer.body.decode()
    assert words in html
    assert f'name="email" type="email" value="{(fields.get("email", EMAIL))}"' in html
    assert PASSWORD not in html


async def test_too_many_attempts_have_to_wait(person: Site) -> None:
    answers = [await sign_in(person, password="wrong") for _ in range(21)]
    assert [each.status for each in answers] == [401] * 20 + [429]
    assert answers[-1].headers["Retry-After"] == "60"
    assert "There were too many attempts. Wait 60 s" in answers[-1].body.decode()
    log_in = await person.call("POST", "/api/v1/login", json={"email": EMAIL, "password": "wrong"})
    assert log_in.status == 429, "both ways to log in share the limit"


async def test_a_person_without_a_session_is_sent_to_sign_in_and_back(person: Site) -> None:
    wanted = f"{FLEET}?as_of=@3&x=%C3%A4"
    answer = await person.call("GET", wanted)
    assert (answer.status, answer.headers["Cache-Control"]) == (303, "no-store")
    location = answer.headers["Location"]
    assert location == f"{SIGN_IN}?next=/console/acme%3Fas_of%3D%403%26x%3D%25C3%25A4"
    form = (await person.call("GET", location)).body.decode()
    assert 'name="next" value="/console/acme?as_of=@3&amp;x=%C3%A4"' in form
    assert (await sign_in(person, next=wanted)).headers["Location"] == wanted


async def test_a_command_is_not_repeated_after_the_sign_in(site: Site) -> None:
    answer = await site.call("POST", SIGN_OUT, headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status, answer.headers["Location"]) == (303, SIGN_IN)


async def test_a_part_of_a_page_sends_the_whole_page_to_sign_in(site: Site) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": f"http://x.example{FLEET}?as_of=@3"}
    answer = await site.call("GET", f"{FLEET}?part=versions", headers=headers)
    assert answer.status == 401
    assert answer.headers["HX-Redirect"] == f"{SIGN_IN}?next=/console/acme%3Fas_of%3D%403"
    for elsewhere in ("", "http://[", "http://x.example/api/v1", "//evil.example"):
        headers["HX-Current-URL"] = elsewhere
        answer = await site.call("GET", f"{FLEET}?part=versions", headers=headers)
        assert answer.headers["HX-Redirect"] == SIGN_IN


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/console",
        "//evil.example/console",
        "/\\evil.example",
        "/console/\\evil.example",
        "/console\n/x",
        "/console/ x",
        "/consolex",
        "/console@evil.example",
        "/api/v1/projects",
        "javascript:alert(1)",
        "",
        "/console/ä",
    ],
)
async def test_no_link_to_the_sign_in_leads_to_another_site(person: Site, path: str) -> None:
    assert own_path(path) == CONSOLE
    assert (await sign_in(person, next=path)).headers["Location"] == CONSOLE


async def test_a_sign_in_takes_no_value_that_the_browser_brought(person: Site) -> None:
    """Nobody can fix a session: a value planted in a browser never becomes one."""
    planted = "planted" * 7
    headers = {"Cookie": f"{COOKIE}={planted}", "Sec-Fetch-Site": "same-origin"}
    answer = await person.call(
        "POST",
        SIGN_IN,
        data=f"email={EMAIL}&password=correct+horse",
        headers=headers | {"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status == 303
    assert given(answer).value != planted
    person.sessions["planted"] = planted
    assert await status(person, CONSOLE, "planted") == 303


async def test_a_sign_in_ends_the_session_that_the_browser_had(person: Site) -> None:
    first = signed_in(person, await sign_in(person), "first")
    answer = await person.post(SIGN_IN, first, email=EMAIL, password=PASSWORD)
    second = signed_in(person, answer, "second")
    assert [await status(person, CONSOLE, each) for each in (first, second)] == [303, 200]


async def test_signing_out_ends_the_session_and_no_other(person: Site) -> None:
    mine, other = [signed_in(person, await sign_in(person), name) for name in ("mine", "other")]
    answer = await person.post(SIGN_OUT, mine)
    assert (answer.status, answer.headers["Location"]) == (303, SIGN_IN)
    cookie = given(answer)
    assert (cookie.key, cookie.value, cookie["max-age"]) == (COOKIE, "", "0")
    assert [await status(person, CONSOLE, each) for each in (mine, other)] == [303, 200]


async def test_the_api_accepts_the_cookie_nowhere(site: Site) -> None:
    text = site.sessions["admin"]
    assert await status(site, FLEET, "admin") == 200
    for headers in (
        {"Cookie": f"{COOKIE}={text}"},
        {"Cookie": f"{SECURE_COOKIE}={text}"},
        {"Authorization": f"Bearer {text}"},
    ):
        for path in (P, f"{P}/devices", "/api/v1/projects", "/api/v1/logins"):
            answer = await site.call("GET", path, headers=headers)
            assert answer.status == 401, (path, headers)


async def test_no_token_opens_a_page(person: Site) -> None:
    log_in = {"email": EMAIL, "password": PASSWORD}
    login = (await person.call("POST", "/api/v1/login", json=log_in)).json["token"]
    for text in (login, person.credentials["admin"]):
        for headers in ({"Authorization": f"Bearer {text}"}, {"Cookie": f"{COOKIE}={text}"}):
            assert (await person.call("GET", FLEET, headers=headers)).status == 303


async def test_a_session_is_listed_and_ended_as_a_login(person: Site) -> None:
    me = signed_in(person, await sign_in(person))
    log_in = {"email": EMAIL, "password": PASSWORD}
    answer = await person.call("POST", "/api/v1/login", json=log_in)
    person.credentials["login"] = answer.json["token"]
    listed = (await person.get("/api/v1/logins", "login")).json["items"]
    [session] = [each for each in listed if each["kind"] == "console"]
    assert session["last_seen_at"] is not None
    path = f"/api/v1/logins/{session['id']}"
    assert (await person.call("DELETE", path, caller="login")).status == 204
    assert await status(person, CONSOLE, me) == 303


async def test_what_ends_the_persons_rights_acts_on_the_next_request(person: Site) -> None:
    services, log_id = person.services, person.log_id
    me = signed_in(person, await sign_in(person))
    actor_id = await new_password(person, "a new password")
    assert await status(person, FLEET, me) == 303

    me = signed_in(person, await sign_in(person, password="a new password"))
    await add_member(services.recorder, log_id, "second@example.org", "admin")
    assert await status(person, FLEET, me) == 200
    await add_member(services.recorder, log_id, EMAIL, "gateway")
    assert await status(person, FLEET, me) == 403
    await services.recorder.act(log_id, commands.remove_member(actor_id, actor="system"))
    assert [await status(person, path, me) for path in (FLEET, CONSOLE)] == [404, 200]
    await erase_user(services.db, services.recorder, actor_id, actor="system")
    assert await status(person, CONSOLE, me) == 303


async def test_a_session_that_ends_has_ended_on_every_server(person: Site) -> None:
    """A second server with caches of its own serves the same database."""
    db = person.services.db
    access = new_access(db)
    other = app.build(app.services(db, access, person.services.recorder, person.services.serving))
    server = TestServer(other)
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server) as client:
        there = Site(client, person.services, person.log_id, {}, person.sessions)
        me = signed_in(person, await sign_in(person))
        assert await status(there, CONSOLE, me) == 200
        await person.post(SIGN_OUT, me)
        assert await status(there, CONSOLE, me) == 303
    access.hasher.close()


async def test_no_page_changes_anything_on_get(site: Site) -> None:
    before = await read(site.services.db, "SELECT digest FROM tokens ORDER BY digest LIMIT 99")
    for path in (SIGN_IN, SIGN_OUT, CONSOLE, FLEET):
        await site.get(path)
    after = await read(site.services.db, "SELECT digest FROM tokens ORDER BY digest LIMIT 99")
    assert before == after


async def test_over_plain_http_a_browser_is_asked_to_use_https(person: Site) -> None:
    typed = {"email": EMAIL, "password": PASSWORD}
    host = "fleet.example:8080"
    for scheme, expected in (("http", 400), ("https", 303)):
        headers = {"Host": host, "Origin": f"{scheme}://{host}"}
        async with person.client.post(
            SIGN_IN, data=typed, headers=headers, allow_redirects=False
        ) as response:
            assert response.status == expected
            html = await response.text()
    assert "over plain http" not in html


def test_a_session_lives_seven_days_and_twelve_hours_without_use() -> None:
    assert (sessions.LIFETIME_MS, sessions.IDLE_MS) == (7 * 86_400_000, 12 * 3_600_000)


async def test_the_form_is_shown_without_a_session(site: Site) -> None:
    answer = await site.call("GET", SIGN_IN)
    html = answer.body.decode()
    assert answer.status == 200
    fields = re.findall(r'<input[^>]* name="(\w+)"', html)
    assert fields == ["email", "password"]
    assert f'<form method="post" action="{SIGN_IN}">' in html

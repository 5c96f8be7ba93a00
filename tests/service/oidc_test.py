"""Checks the sign-in at an OpenID Connect provider, against a provider of our own."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer
from joserfc.jwk import OctKey, RSAKey

from firmtrail.application import app
from firmtrail.config import Oidc
from firmtrail.http.oidc import OidcSignIn
from tests.service.oidc_provider import CLIENT, SECRET, Provider
from tests.service.site import CONSOLE, Site
from tests.serving import Answer

BEGIN, BACK = f"{CONSOLE}/sign-in/oidc", f"{CONSOLE}/sign-in/oidc/back"
OF_PROVIDERS = "scope=openid+email&authuser=0&prompt=consent&hd=example.org&session_state=&iss=x"
"""Parameters that providers add of their own."""


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider().serving() as provider:
        yield provider


@pytest.fixture
async def there(site: Site, provider: Provider) -> AsyncIterator[Site]:
    """Returns the site served with the provider."""
    signing = OidcSignIn(Oidc(issuer=provider.issuer, client_id=CLIENT, client_secret=SECRET))
    server = TestServer(app.build(replace(site.services, oidc=signing)))
    await server.start_server(**app.RUNNER_OPTIONS)
    async with TestClient(server, cookie_jar=DummyCookieJar()) as client:
        yield replace(site, client=client)


async def begin(there: Site, provider: Provider, path: str = BEGIN) -> dict[str, str]:
    """Begins to sign in; returns the browser's cookie."""
    answer = await there.call("GET", path)
    assert answer.status == 303, answer.body
    address = urlsplit(answer.headers["Location"])
    provider.begun = {name: each[0] for name, each in parse_qs(address.query).items()}
    assert f"{address.scheme}://{address.netloc}" == provider.issuer
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


async def come_back(there: Site, cookie: dict[str, str], query: str) -> Answer:
    return await there.call("GET", f"{BACK}?{query}", headers=cookie)


async def signed_in(there: Site, provider: Provider) -> Answer:
    cookie = await begin(there, provider)
    return await come_back(there, cookie, f"code=a-code&state={provider.begun['state']}")


async def test_a_member_signs_in_by_a_verified_address(there: Site, provider: Provider) -> None:
    cookie = await begin(there, provider, f"{BEGIN}?next=/console/acme/access")
    asked = provider.begun
    assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
    assert (asked["scope"], asked["code_challenge_method"]) == ("openid email", "S256")
    assert asked["tenant"] == "1"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    answer = await come_back(there, cookie, f"code=a-code&state={asked['state']}&{OF_PROVIDERS}")
    assert answer.status == 303
    assert answer.headers["Location"] == "/console/acme/access"
    given = [each.partition(";")[0] for each in answer.headers.getall("Set-Cookie")]
    session, forgotten = given
    assert forgotten == 'firmtrail-sign-in=""'
    page = await there.call("GET", "/console/acme", headers={"Cookie": session})
    assert page.status == 200
    assert b"admin@example.org" in page.body


async def test_only_the_browser_that_began_completes_a_sign_in(
    there: Site, provider: Provider
) -> None:
    cookie = await begin(there, provider)
    state = provider.begun["state"]
    for sent, query in (
        ({}, f"code=a-code&state={state}"),
        (cookie, "code=a-code&state=another"),
        (cookie, "code=a-code"),
        ({"Cookie": "firmtrail-sign-in=x"}, f"code=a-code&state={state}"),
        ({"Cookie": "firmtrail-sign-in=e30="}, "code=a-code&state="),
    ):
        answer = await come_back(there, sent, query)
        assert answer.status == 400, query
        assert b"This browser has not begun to sign in" in answer.body
        assert "firmtrail-session" not in str(answer.headers.getall("Set-Cookie", []))


@pytest.mark.parametrize(
    ("claims", "status", "words"),
    [
        ({"email_verified": False}, 401, "has not verified"),
        ({"email_verified": None}, 401, "has not verified"),
        ({"email_verified": "true"}, 401, "has not verified"),
        ({"email": None}, 401, "has not verified"),
        ({"email": "nobody@example.org"}, 403, "Nobody here has the address nobody@example.org"),
        ({"nonce": "another"}, 401, "is not valid"),
        ({"nonce": None}, 401, "is not valid"),
        ({"aud": "another"}, 401, "is not valid"),
        ({"aud": [CLIENT, "x"], "azp": "x"}, 401, "another client"),
        ({"aud": [CLIENT, "x"]}, 401, "another client"),
        ({"iss": "https://another.example"}, 401, "is not valid"),
        ({"exp": 1_000_000_000}, 401, "is not valid"),
        ({"exp": None}, 401, "is not valid"),
    ],
)
async def test_a_token_that_says_less_signs_nobody_in(
    there: Site, provider: Provider, claims: dict[str, Any], status: int, words: str
) -> None:
    provider.claims = claims
    answer = await signed_in(there, provider)
    assert (answer.status, words in answer.body.decode()) == (status, True), answer.body
    assert "firmtrail-session" not in str(answer.headers.getall("Set-Cookie"))


async def test_a_token_for_several_clients_signs_in_the_one_that_it_was_given_to(
    there: Site, provider: Provider
) -> None:
    for claims in ({"aud": [CLIENT, "x"], "azp": CLIENT}, {"aud": [CLIENT]}):
        provider.claims = claims
        assert (await signed_in(there, provider)).status == 303, claims


async def test_a_token_with_another_signature_signs_nobody_in(
    there: Site, provider: Provider
) -> None:
    for header, key in (
        ({"alg": "RS256", "kid": "1"}, RSAKey.generate_key(2048, {"kid": "1"})),
        ({"alg": "HS256", "kid": "1"}, OctKey.generate_key(256)),
    ):
        provider.header, provider.signing = header, key
        answer = await signed_in(there, provider)
        assert answer.status == 401
        assert b"is not valid" in answer.body


async def test_a_new_key_of_the_provider_is_found(there: Site, provider: Provider) -> None:
    assert (await signed_in(there, provider)).status == 303
    provider.key = provider.signing = RSAKey.generate_key(2048, {"kid": "2"})
    provider.header = {"alg": "RS256", "kid": "2"}
    assert (await signed_in(there, provider)).status == 303


async def test_a_refusal_of_the_provider_is_shown(there: Site, provider: Provider) -> None:
    cookie = await begin(there, provider)
    state = provider.begun["state"]
    hostile = "%3Cscript%3Ealert(1)%3C/script%3E"
    answer = await come_back(there, cookie, f"error={hostile}&state={state}")
    assert answer.status == 401
    assert b"&lt;script&gt;" in answer.body
    answer = await come_back(there, cookie, f"code=wrong&state={state}")
    assert (answer.status, b"does not accept the code" in answer.body) == (401, True)


async def test_a_provider_that_is_away_is_named(there: Site, provider: Provider) -> None:
    provider.is_away = True
    answer = await there.call("GET", BEGIN)
    assert (answer.status, b"The provider does not answer" in answer.body) == (503, True)
    form = (await there.call("GET", f"{CONSOLE}/sign-in")).body.decode()
    assert "Sign in with <bdi>127.0.0.1" in form


async def test_without_a_provider_there_is_only_the_password(site: Site) -> None:
    assert "Sign in with" not in (await site.call("GET", f"{CONSOLE}/sign-in")).body.decode()
    for path in (BEGIN, BACK):
        assert (await site.call("GET", path)).status == 404

"""A person signs in at an OpenID Connect provider, in a browser that leaves the console for it and
comes back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import urlencode

import pytest
from aiohttp import web
from playwright.async_api import Browser, expect

from firmtrail.config import Oidc
from firmtrail.http.oidc import OidcSignIn
from firmtrail.http.sessions import COOKIE
from tests.browser.conftest import EMAIL, Console, served
from tests.service.oidc_provider import CLIENT, SECRET, Provider

pytestmark = pytest.mark.slow


class ProviderWithPages(Provider):
    """Also has the page on which a person agrees to sign in."""

    def app(self) -> web.Application:
        found = super().app()
        found.router.add_get("/authorize", self.authorize)
        return found

    async def authorize(self, request: web.Request) -> web.Response:
        self.begun = dict(request.query)
        answer = urlencode({"code": "a-code", "state": self.begun["state"]})
        back = f"{self.begun['redirect_uri']}?{answer}"
        text = f'<!doctype html><a href="{back.replace("&", "&amp;")}">Continue as Ana</a>'
        return web.Response(text=text, content_type="text/html")


@pytest.fixture
async def provider() -> AsyncIterator[ProviderWithPages]:
    async with ProviderWithPages().serving() as found:
        found.claims = {"email": EMAIL}
        yield found


@pytest.fixture
async def url(console: Console, provider: Provider) -> AsyncIterator[str]:
    """Serves the console with the provider, and returns the address of a page in it."""
    signing = OidcSignIn(Oidc(issuer=provider.issuer, client_id=CLIENT, client_secret=SECRET))
    async with served(replace(console.services, oidc=signing)) as origin:
        yield f"{origin}/console/demo-fleet/rollouts"


async def test_a_person_signs_in_at_the_provider_and_comes_back_to_the_page(
    browser: Browser, url: str
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("link", name="Sign in with").click()
    await page.get_by_role("link", name="Continue as Ana").click()
    await page.get_by_role("heading", name="Rollouts", exact=True).wait_for()
    assert page.url == url
    assert await page.locator(".person .name").inner_text() == "ana"
    [session] = [each for each in await context.cookies(url) if each["name"] == COOKIE]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Lax")
    await page.locator(".person summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(url)
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    await context.close()


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"email": EMAIL, "email_verified": False}, "has not verified"),
        ({"email": "nobody@example.org"}, "Nobody here has the address nobody@example.org"),
    ],
)
async def test_a_person_that_the_provider_does_not_vouch_for_reads_why(
    browser: Browser, url: str, provider: Provider, claims: dict[str, object], words: str
) -> None:
    provider.claims = claims
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("link", name="Sign in with").click()
    await page.get_by_role("link", name="Continue as Ana").click()
    await expect(page.get_by_role("alert")).to_contain_text(words)
    assert [each for each in await context.cookies(url) if each["name"] == COOKIE] == []
    await context.close()

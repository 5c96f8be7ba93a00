"""Opens the pages that ask before something is changed, wide and narrow, light and dark, and
without scripts; and sees that no page of the console is opened by no test."""

import re
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser

from firmtrail.access.roles import EVERYTHING
from firmtrail.application import routes
from firmtrail.commands import access as commands
from firmtrail.commands import webhooks as webhook_commands
from firmtrail.commands.webhooks import WebhookTerms
from firmtrail.events.fleet import DeviceDecommissioned, DeviceRegistered
from tests.browser import pages_test, steering_pages_test
from tests.browser.conftest import Console
from tests.browser.visit import visiting
from tests.fleet import received, record_events, register, report
from tests.people import add_member

pytestmark = pytest.mark.slow

PAGES = (
    "/settings/webhooks/{webhook}",
    "/settings/webhooks/{webhook}/secret",
    "/settings/webhooks/{webhook}/redeliver",
    "/settings/webhooks/{webhook}/remove",
    "/access/members/{member}/remove",
    "/access/tokens/{token}/end",
    "/log/1/{position}/erase",
    "/halt",
    "/resume",
    "/devices/waiting-1/accept",
    "/devices/waiting-1/reject",
    "/devices/pump-001/pin",
    "/devices/pump-001/retry",
    "/devices/pump-001/secret",
    "/devices/pump-001/decommission",
    "/devices/gone-1/restore",
    "/releases/pump/1.6.1/withdraw",
)
"""The paths below /console/{project}."""

NO_PAGES = re.compile(r"/tlog/|/-/|\.(csv|ndjson)$|/sign-in/|/moment$")
"""Addresses that answer with files, with bytes of the log, or with the address of a page."""


@pytest.fixture(scope="module")
async def things(console: Console) -> dict[str, str]:
    """Makes what the pages are about; returns the names of the things in their paths."""
    recorder, log_id = console.recorder, console.log_id
    member = await add_member(recorder, log_id, "leaving@example.org", "viewer")
    wanted = commands.TokenRequest(console.actor_id, "for a test", "viewer")
    issue = commands.issue_token(wanted, EVERYTHING, actor="system")
    terms = WebhookTerms(url="https://example.org/hook")
    adding = webhook_commands.add_webhook(terms, actor="system")
    await register(recorder, log_id, "gone-1", model="pump")
    changes = [
        ("device/waiting-1", DeviceRegistered("pump", pending=True)),
        ("device/gone-1", DeviceDecommissioned()),
    ]
    await record_events(recorder, log_id, list(changes))
    [said] = await recorder.report(log_id, [report(device="pump-001", detail="The valve sticks")])
    return {
        "member": member,
        "token": (await recorder.act(log_id, issue)).token.token_id,
        "webhook": (await recorder.act(log_id, adding)).webhook_id,
        "position": str(received(said).position),
    }


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_that_asks_is_right_in_every_form(
    browser: Browser, console: Console, things: dict[str, str], path: str
) -> None:
    async with visiting(browser, console) as visit:
        response = await visit.open(f"{console.project}{path.format(**things)}")
        assert response.status == 200
        await steering_pages_test.check_every_form(visit)
        assert visit.weight_bytes < pages_test.WEIGHT_BYTES_MAX


@pytest.mark.parametrize("path", [*PAGES, *steering_pages_test.PAGES])
async def test_a_page_is_readable_without_scripts(
    browser: Browser, console: Console, things: dict[str, str], path: str
) -> None:
    async with visiting(browser, console, has_scripts=False) as visit:
        await visit.open(f"{console.project}{path.format(**things)}")
        assert await visit.page.locator("h1").count() == 1
        assert len(await visit.page.locator("main").inner_text()) > 40
        assert visit.faults == []


def test_every_page_of_the_console_is_opened_in_a_browser() -> None:
    below = (*PAGES, *pages_test.PAGES, *steering_pages_test.PAGES)
    opened = [urlsplit(f"/console/p{path}").path for path in below]
    opened += pages_test.ELSEWHERE
    pages = [each.path for each in routes.PAGES if each.method == "GET"]
    missed = [
        page
        for page in pages
        if not NO_PAGES.search(page)
        and not any(re.fullmatch(re.sub(r"\{[a-z_]+\}", "[^/]+", page), each) for each in opened)
    ]
    assert missed == []

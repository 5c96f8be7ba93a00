"""A person goes to a moment of the past and back, and watches the log grow."""

import pytest
from playwright.async_api import Browser, expect

from firmtrail.eventstore import log
from tests.browser.conftest import Console
from tests.browser.visit import visiting
from tests.fleet import register

pytestmark = pytest.mark.slow


async def test_the_slider_and_a_date_lead_to_the_past_and_links_stay_there(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(f"{console.project}/log?subject=device/")
        slider = page.get_by_role("slider")
        await slider.fill("1200")
        await expect(page.locator("#moment-position")).to_have_text("1\u202f200")
        await page.get_by_role("button", name="Go there").press("Enter")
        bar = page.locator(".when.past")
        await expect(bar).to_contain_text("As known at position 1\u202f200")
        assert page.url.endswith("/log?subject=device%2F&as_of=%401200")
        first = page.locator("#entries tbody tr").first
        assert int(str(await first.get_attribute("id")).removeprefix("p")) < 1200
        await page.get_by_role("link", name="Fleet", exact=True).click()
        await expect(bar).to_contain_text("As known at position 1\u202f200")
        await page.get_by_label("As of this time, in UTC").fill("2020-03-14T09:30")
        await page.get_by_role("button", name="Go there").click()
        await expect(bar).to_contain_text("14\u00a0Mar\u00a02020")
        await page.go_back()
        await expect(bar).to_contain_text("As known at position 1\u202f200")
        await page.get_by_role("link", name="Back to now").click()
        await expect(bar).to_have_count(0)
        await visit.check()


async def test_the_log_grows_on_the_page_until_it_is_paused(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(f"{console.project}/log?subject=device/")
        await register(console.recorder, console.log_id, "live-1")
        newest = page.locator("#entries tbody tr").first
        await expect(newest).to_contain_text("live-1 was registered", timeout=10_000)
        await page.get_by_role("button", name="Pause").click()
        await register(console.recorder, console.log_id, "live-2")
        size = (await log.head(console.db, console.log_id)).size
        await expect(newest).to_contain_text("live-1")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.locator(f"#p{size - 1}")).to_contain_text("live-2 was registered")
        await visit.check()

"""Uses the console with the keyboard alone, and sees its live parts move."""

import pytest
from playwright.async_api import Browser, expect

from firmtrail.rules.report import ReportCommand
from tests.browser.conftest import Console
from tests.browser.visit import visiting

pytestmark = pytest.mark.slow


async def test_a_slash_finds_a_device_and_enter_opens_it(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        await visit.open(console.project)
        await visit.page.keyboard.press("/")
        await expect(visit.page.locator(".find input")).to_be_focused()
        await visit.page.keyboard.type("pump-00")
        await expect(visit.page.locator("#matches a")).to_have_count(10)
        await visit.page.keyboard.press("ArrowDown")
        await expect(visit.page.locator("#matches a").first).to_be_focused()
        await visit.check_access()
        await visit.check()
        await visit.page.keyboard.press("Escape")
        await expect(visit.page.locator("#matches a")).to_have_count(0)
        await visit.page.keyboard.press("/")
        await visit.page.keyboard.type("pump-007")
        await visit.page.keyboard.press("Enter")
        await visit.page.wait_for_url(f"{console.project}/devices/pump-007")


async def test_a_question_mark_lists_the_keys(browser: Browser, console: Console) -> None:
    async with visiting(browser, console) as visit:
        await visit.open(console.project)
        await visit.page.keyboard.press("?")
        await expect(visit.page.get_by_role("dialog")).to_be_visible()
        await visit.check_access()
        await visit.page.keyboard.press("Escape")
        await expect(visit.page.get_by_role("dialog")).to_be_hidden()


async def test_the_fleet_page_moves_while_devices_report(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        await visit.page.clock.install()
        await visit.open(console.project)
        device = "gauge-007"
        report = ReportCommand(device, "0.9.1", "installed", f"device/{device}")
        await console.recorder.report(console.log_id, [report])
        await visit.page.clock.run_for(11_000)
        row = visit.page.locator(".feed li").first
        await expect(row).to_contain_text("gauge-007 installed 0.9.1")
        await visit.check()


async def test_a_chart_says_its_values_where_the_pointer_is(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        await visit.open(console.project)
        await visit.page.locator("#shares").hover()
        values = visit.page.locator("[data-values-of=shares]")
        await expect(values).to_contain_text("1.5.0: ")
        await visit.page.locator("h1").hover()
        await expect(values).to_be_empty()


async def test_times_are_in_the_persons_zone_on_request(browser: Browser, console: Console) -> None:
    async with visiting(browser, console) as visit:
        await visit.open(console.project)
        zone, time = visit.page.locator("button.zone"), visit.page.locator("time").first
        assert "UTC" in str(await time.get_attribute("title"))
        await zone.click()
        await expect(zone).to_have_text("Times in your zone")
        await visit.open(console.project)
        await expect(zone).to_have_text("Times in your zone")

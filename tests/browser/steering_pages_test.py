"""Opens the pages of devices, releases and rollouts in a browser, and recalls a release there."""

import pytest
from playwright.async_api import Browser

from firmtrail.commands import demo_fleet
from firmtrail.events.fleet import ReleaseWithdrawn, SettingsChanged
from firmtrail.events.steering import AutoRollout
from tests.browser.conftest import Console
from tests.browser.visit import Visit, visiting
from tests.fleet import record_events

pytestmark = pytest.mark.slow

PAGES = (
    "/devices?model=pump&cohort=north",
    "/devices?as_of=@1200",
    "/devices/pump-001",
    "/devices/pump-001?as_of=@1200",
    "/devices/pump-001/labels",
    "/releases",
    "/releases/pump/1.6.0",
    "/releases/pump/1.6.1/recall",
    "/releases/new",
    "/rollouts",
    "/rollouts/r_161",
    "/rollouts/r_161/devices?state=failed",
    "/rollouts/r_161/abort",
    "/rollouts/r_161/count",
    "/rollouts/start",
    "/rollouts/start?model=pump&version=1.6.1&percent=1&after=1+d&installed=95&reports=20"
    "&percent_2=100&window_cron=0+2+*+*+1-5&window_for=4+h&window_timezone=Europe/Berlin",
    "/rollouts/r_210/plan",
    "/rollouts/r_210/plan?percent=60&after=1+d&percent_2=100",
)
"""The paths below /console/{project}."""

WEIGHT_BYTES_MAX = 150 * 1024


async def check_every_form(visit: Visit) -> None:
    """Checks the open page in each size and colour scheme."""
    async for _ in visit.every_form():
        pass
    await visit.check()


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_right_in_every_form(browser: Browser, console: Console, path: str) -> None:
    async with visiting(browser, console) as visit:
        response = await visit.open(f"{console.project}{path}")
        assert response.status == 200
        await check_every_form(visit)
        assert visit.weight_bytes < WEIGHT_BYTES_MAX


async def test_many_devices_are_asked_in_parts_by_one_click(
    browser: Browser, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.console.pages.devices_bulk.BATCH", 3)
    async with visiting(browser, console) as visit:
        await visit.open(f"{console.project}/devices?q=gauge-00")
        await visit.page.get_by_role("button", name="Ask their versions").click()
        await visit.page.get_by_role("button", name="Ask their versions").click()
        await visit.page.get_by_text("10 of 10 done").wait_for()
        assert visit.faults == []


async def test_a_rollout_with_a_plan_starts_without_scripts_and_shows_its_timeline(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console, has_scripts=False) as visit:
        page = visit.page
        await visit.open(f"{console.project}/rollouts/start?model=valve&version=2.1.0")
        for name, text in (("percent", "101"), ("after", "1 d"), ("percent_2", "100")):
            await page.locator(f"input[name={name}]:visible").fill(text)
        await page.get_by_role("button", name="Show the numbers").click()
        assert await page.get_by_text("a percentage from 0 to 100").is_visible()
        assert await page.locator("input[name=after]:visible").input_value() == "1 d"
        await page.locator("input[name=percent]:visible").fill("5")
        await page.get_by_role("button", name="Show the numbers").click()
        assert await page.locator(".phases li").count() == 2
        await page.get_by_role("button", name="Start the rollout").click()
        await page.get_by_role("heading", name="Its plan").wait_for()
        assert "began" in await page.locator(".phases .current").inner_text()
        assert "expected" in await page.locator(".phases .next").inner_text()
        assert [each for each in visit.faults if "422" not in each] == []


async def test_a_large_rollout_is_counted_in_parts_by_one_click(
    browser: Browser, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.console.pages.rollouts.WALKED_MAX", 10)
    monkeypatch.setattr("firmtrail.console.pages.rollout_counts.COUNTED", 50)
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(f"{console.project}/rollouts/r_161")
        await page.get_by_role("link", name="Count every state").click()
        await page.get_by_text("All 2").wait_for()
        await page.get_by_role("link", name="Count again").wait_for()
        await page.go_back()
        await page.get_by_role("heading", name="Where its devices are").wait_for()
        assert visit.faults == []


async def test_of_two_people_who_press_together_the_second_reads_what_happened(
    browser: Browser, console: Console
) -> None:
    path = f"{console.project}/rollouts/r_210/pause"
    async with visiting(browser, console) as first, visiting(browser, console) as second:
        for visit in (first, second):
            await visit.open(path)
        await first.page.locator("main form button").first.click()
        await first.page.wait_for_url(f"{console.project}/rollouts/r_210")
        await second.page.locator("main form button").first.click()
        await second.page.get_by_text("changed").first.wait_for()
        assert [each for each in second.faults if "412" not in each] == []


async def test_a_release_is_recalled_in_three_clicks_with_the_numbers_before_the_last(
    browser: Browser, console: Console
) -> None:
    """The clicks: the rollout on the fleet page, "Recall", and the confirmation."""
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(console.project)
        await page.locator('main a[href*="/rollouts/r_161"]').first.click()
        await page.get_by_role("link", name="Recall 1.6.1").click()
        numbers = await page.locator(".facts.numbers").inner_text()
        assert "devices run it" in numbers and "have no earlier good version" in numbers
        await page.get_by_label("Why").fill("The valve sticks below zero")
        await page.get_by_role("button", name="Recall 1.6.1").click()
        await page.get_by_role("heading", name="Recall of 1.6.1 from pump").wait_for()
        ordered = await page.locator(".trail").inner_text()
        assert "ana@example.org" in ordered and "The valve sticks below zero" in ordered
        assert visit.faults == []


async def test_a_list_of_few_devices_is_looked_through_page_by_page(
    browser: Browser, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.projections.device_pages.LOOKED_AT_MAX", 150)
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(f"{console.project}/devices?tag=none&silent_for=0")
        await page.get_by_text("Looked at 150 devices: none of them matches so far.").wait_for()
        await check_every_form(visit)
        for _ in range(2):
            await page.get_by_role("link", name="Look further").click()
        await page.get_by_text("No further device matches.").wait_for()
        assert await page.get_by_role("link", name="Look further").count() == 0


async def test_a_release_added_by_its_form_leads_to_the_rollout_that_it_started(
    browser: Browser, console: Console
) -> None:
    automatic = SettingsChanged(auto_rollout={"valve": AutoRollout()})
    stream = f"project/{demo_fleet.PROJECT}"
    await record_events(console.recorder, console.log_id, [(stream, automatic)])
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(f"{console.project}/releases/new")
        await page.get_by_text("The setting auto_rollout starts a rollout").wait_for()
        await check_every_form(visit)
        await page.locator("#f-model").fill("valve")
        await page.locator("#f-version").fill("9.0.0")
        await page.get_by_role("button", name="Add the release").click()
        await page.get_by_text("started its rollout automatically").wait_for()
        await check_every_form(visit)
        await page.get_by_role("link", name="its rollout", exact=True).click()
        await page.get_by_role("heading", name="9.0.0 to valve").wait_for()
        assert visit.faults == []


async def test_devices_that_run_a_withdrawn_release_are_recalled_from_their_note(
    browser: Browser, console: Console
) -> None:
    bad = [("release/pump/1.5.0", ReleaseWithdrawn())]
    await record_events(console.recorder, console.log_id, list(bad))
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(console.project)
        note = page.locator(".notes li", has_text="run 1.5.0 of pump, which is withdrawn")
        await note.get_by_role("link", name="Recall it").click()
        returns = page.locator("table", has_text="Where they go")
        assert "Version" in await returns.inner_text()
        await check_every_form(visit)

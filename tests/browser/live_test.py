"""Pages that a person leaves open show what devices do meanwhile, without being loaded again."""

import pytest
from playwright.async_api import Browser, expect

from firmtrail.projections import device_asks
from tests.browser.conftest import Console
from tests.browser.visit import Visit, visiting
from tests.contract.steered_log import check_in, release, roll_out
from tests.fleet import register, report

pytestmark = pytest.mark.slow

NEVER = 2**62
"""A position after all others."""


async def stay(visit: Visit, url: str) -> None:
    """Opens a page whose clock the test moves, and notes in it that it was not loaded again."""
    await visit.page.clock.install()
    await visit.open(url)
    await visit.page.evaluate("() => { window.stays = true; }")


async def check_stayed(visit: Visit) -> None:
    assert await visit.page.evaluate("() => window.stays"), "the page was loaded again"
    await visit.check()


async def test_a_page_that_nobody_looks_at_asks_for_nothing(
    browser: Browser, console: Console
) -> None:
    away = "Object.defineProperty(document, 'hidden', { get: () => window.isAway ?? false });"
    async with visiting(browser, console) as visit:
        page, asked = visit.page, list[str]()
        await page.add_init_script(away)
        await stay(visit, console.project)
        await page.evaluate("() => { window.isAway = true; }")
        page.on("request", lambda request: asked.append(request.url))
        await page.clock.run_for(60_000)
        assert asked == []
        await page.evaluate("() => { window.isAway = false; }")
        async with page.expect_request(lambda request: "part=" in request.url):
            await page.clock.run_for(11_000)
        await check_stayed(visit)


async def test_a_paused_part_stays_as_it_is_when_a_person_comes_back(
    browser: Browser, console: Console
) -> None:
    async with visiting(browser, console) as visit:
        page, asked = visit.page, list[str]()
        await stay(visit, f"{console.project}/log")
        await page.get_by_role("button", name="Pause").click()
        page.on("request", lambda request: asked.append(request.url))
        await page.locator("h1").click()
        await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
        await page.clock.run_for(60_000)
        assert asked == []
        await page.get_by_role("button", name="Continue").click()
        await check_stayed(visit)


async def test_a_rollout_moves_while_its_devices_report(browser: Browser, console: Console) -> None:
    recorder, log_id = console.recorder, console.log_id
    names = [f"moving-{number}" for number in range(5)]
    await register(recorder, log_id, *names, model="m")
    await release(recorder, log_id, "1.0.0", "1.1.0")
    await recorder.report(log_id, [report(device=name) for name in names])
    rollout = await roll_out(recorder, log_id, "1.1.0", failed_percent=30, min_reports=5)
    async with visiting(browser, console) as visit:
        await stay(visit, f"{console.project}/rollouts/{rollout}")

        async def shows(state: str, devices: int) -> None:
            await visit.page.clock.run_for(6_000)
            count = visit.page.locator(f'#states a[href$="state={state}"] b')
            await expect(count).to_have_text(str(devices))

        await shows("pending", len(names))
        for number, name in enumerate(names[:3], 1):
            await check_in(recorder, log_id, name)
            await recorder.report(log_id, [report("1.1.0", "installed", name)])
            await shows("installed", number)
        await check_in(recorder, log_id, names[3])
        await shows("offered", 1)
        await recorder.report(log_id, [report("1.1.0", "failed", names[3])])
        await shows("failed", 1)
        await shows("installed", 3)
        await check_stayed(visit)


async def test_a_device_answers_a_question_while_its_page_is_open(
    browser: Browser, console: Console
) -> None:
    name = "pump-002"
    async with visiting(browser, console) as visit:
        await visit.page.clock.install()
        await visit.open(f"{console.project}/devices/{name}")
        await visit.page.get_by_role("button", name="Ask its version").click()
        facts = visit.page.locator("#facts")
        await expect(facts).to_contain_text("no answer yet")
        await visit.page.evaluate("() => { window.stays = true; }")
        asks = await device_asks.page(console.db, console.log_id, name, before=NEVER, limit=1)
        [question] = asks[2]
        answer = report("1.4.9", "running", name, question=question.question)
        await console.recorder.report(console.log_id, [answer])
        await visit.page.clock.run_for(6_000)
        await expect(facts).to_contain_text("It answered 1.4.9")
        await expect(facts).not_to_contain_text("no answer yet")
        await expect(visit.page.locator("#ran .trail li").first).to_contain_text("1.4.9")
        await check_stayed(visit)

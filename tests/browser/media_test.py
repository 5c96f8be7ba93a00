"""Pages on paper have no controls, and move for nobody that asks for less motion."""

import pytest
from playwright.async_api import Browser

from tests.browser.conftest import Console
from tests.browser.visit import visiting

pytestmark = pytest.mark.slow

CONTROLS = ".top nav, .find, .person, .acts, .zone, main button, main input, main select"


@pytest.mark.parametrize("path", ["/devices/pump-002", "/audit"])
async def test_a_page_is_printed_without_its_controls(
    browser: Browser, console: Console, path: str
) -> None:
    async with visiting(browser, console) as visit:
        page = visit.page
        await visit.open(f"{console.project}{path}")
        controls = page.locator(CONTROLS).filter(visible=True)
        assert await controls.count() > 3
        cards = await page.locator("main .card").filter(visible=True).count()
        await page.emulate_media(media="print", color_scheme="dark")
        found = [
            (await each.evaluate("(here) => here.outerHTML"))[:80] for each in await controls.all()
        ]
        assert found == []
        assert await page.locator("main .card").filter(visible=True).count() == cards > 0
        assert await page.locator("h1").is_visible()
        background = "() => getComputedStyle(document.body).backgroundColor"
        assert await page.evaluate(background) == "rgb(255, 255, 255)"
        await visit.check()


async def test_nothing_moves_for_a_person_that_asks_for_less_motion(
    browser: Browser, console: Console
) -> None:
    moving = """\
() => {
  const row = document.querySelector("#entries tbody tr");
  row.classList.add("new");
  return getComputedStyle(row).animationName;
}"""
    async with visiting(browser, console) as visit:
        await visit.page.emulate_media(reduced_motion="no-preference")
        await visit.open(f"{console.project}/log")
        assert await visit.page.evaluate(moving) == "new"
        await visit.page.emulate_media(reduced_motion="reduce")
        assert await visit.page.evaluate(moving) == "none"

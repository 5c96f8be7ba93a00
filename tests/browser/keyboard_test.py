"""A person signs in, finds a rollout and recalls its version with the keyboard alone."""

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import Console
from tests.browser.visit import DESKTOP
from tests.people import add_member

pytestmark = pytest.mark.slow

EMAIL, PASSWORD = "night@example.org", "only keys at 3 a.m."
STOPS_MAX = 60

_HERE = """\
() => {
  const here = document.activeElement;
  const labels = [...(here.labels ?? [])].map((each) => each.textContent);
  return [...labels, here.textContent].join(" ");
}"""


async def go_to(page: Page, words: str) -> None:
    """Presses Tab until the focus is on the control with these words, and sees where it is."""
    for _ in range(STOPS_MAX):
        await page.keyboard.press("Tab")
        if words in await page.evaluate(_HERE):
            outline = "() => getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(outline) != "none", f"the focus on {words} can't be seen"
            return
    raise AssertionError(f"the keyboard does not reach {words}")


async def test_the_keyboard_alone_recalls_a_release(browser: Browser, console: Console) -> None:
    hashed = await console.services.access.hasher.hash("user", PASSWORD)
    await add_member(console.recorder, console.log_id, EMAIL, "operator", password_hash=hashed)
    context = await browser.new_context(viewport={"width": DESKTOP[0], "height": DESKTOP[1]})
    page = await context.new_page()
    await page.goto(console.project)
    keys = page.keyboard
    await expect(page.get_by_label("E-mail address")).to_be_focused()
    await keys.type(EMAIL)
    await keys.press("Tab")
    await keys.type(PASSWORD)
    await keys.press("Enter")
    await page.wait_for_url(console.project)
    await keys.press("/")
    await keys.type("r_161")
    await keys.press("Enter")
    await page.wait_for_url(f"{console.project}/rollouts/r_161")
    await go_to(page, "Recall 1.6.1")
    await keys.press("Enter")
    await expect(page.get_by_role("heading", name="Recall 1.6.1 on pump")).to_be_visible()
    await go_to(page, "Why")
    await keys.type("The valve sticks below zero")
    await go_to(page, "Recall 1.6.1")
    await keys.press("Enter")
    await expect(page.get_by_role("heading", name="Recall of 1.6.1 from pump")).to_be_visible()
    await expect(page.locator(".trail")).to_contain_text(EMAIL)
    await context.close()

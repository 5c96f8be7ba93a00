"""Opens every page in a browser, wide and narrow, light and dark, and without scripts.

A page joins `PAGES` with its path below the project. FIRMTRAIL_TEST_SCREENSHOTS=FOLDER keeps a
picture of each."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser.conftest import Console
from tests.browser.visit import Visit, visiting

pytestmark = pytest.mark.slow

PAGES = (
    "",
    "?as_of=@1200",
    "/log",
    "/log?subject=rollout/&as_of=@1200",
    "/log/1/300",
    "/log/1/300?as_of=@1200",
    "/audit",
    "/audit?as_of=@1200",
    "?model=valve&days=7",
    "/search?q=pump-00",
    "/search?q=nothing-like-this",
    "/access",
    "/settings",
    "/settings/webhooks",
)
"""The paths below /console/{project}."""

ELSEWHERE = ("/console", "/console/sign-in")
"""The paths of pages outside a project."""

WEIGHT_BYTES_MAX = 150 * 1024
SCREENSHOTS = os.environ.get("FIRMTRAIL_TEST_SCREENSHOTS")


def urls(console: Console) -> list[str]:
    inside = [f"{console.project}{path}" for path in PAGES]
    return [*inside, *(f"{console.url}{path}" for path in ELSEWHERE)]


@pytest.mark.parametrize("number", range(len(PAGES) + len(ELSEWHERE)))
async def test_a_page_is_right_in_every_form(
    browser: Browser, console: Console, number: int
) -> None:
    url = urls(console)[number]
    async with visiting(browser, console) as visit:
        response = await visit.open(url)
        assert response.status == 200, url
        async for form in visit.every_form():
            await keep_picture(visit, f"{number:02}-{form}")
        await visit.check()
        assert visit.weight_bytes < WEIGHT_BYTES_MAX


@pytest.mark.parametrize("number", range(len(PAGES) + len(ELSEWHERE)))
async def test_a_page_is_readable_without_scripts(
    browser: Browser, console: Console, number: int
) -> None:
    url = urls(console)[number]
    async with visiting(browser, console, has_scripts=False) as visit:
        await visit.open(url)
        assert await visit.page.locator("h1").count() == 1
        assert len(await visit.page.locator("main").inner_text()) > 40
        assert visit.faults == []


async def keep_picture(visit: Visit, name: str) -> None:
    if SCREENSHOTS:
        await visit.page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)

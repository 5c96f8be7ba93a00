"""Opens pages in a browser, and collects everything that must not happen there."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, Request, Response

from firmtrail.http.sessions import COOKIE
from tests.browser.conftest import Console

DESKTOP, PHONE = (1280, 900), (360, 740)
SCHEMES = ("light", "dark")
COLOUR_RULES = ("color-contrast", "link-in-text-block")
"""axe's rules that look at colours."""

_VIOLATIONS = """\
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});"""

_TOO_WIDE = """\
() => {
  const width = document.documentElement.clientWidth;
  const isScrolled = (each) => each.closest(".wide, .top nav, .hidden, .skip, pre, svg, dialog");
  return [...document.querySelectorAll("body *")]
    .filter((each) => each.getBoundingClientRect().right > width + 1 && !isScrolled(each))
    .map((each) => each.outerHTML.slice(0, 120));
}"""


@dataclass
class Visit:
    """A tab, and what went wrong in it."""

    page: Page
    origin: str
    faults: list[str] = field(default_factory=list)
    weight_bytes: int = 0

    async def open(self, url: str) -> Response:
        """Opens the page and waits until it has loaded."""
        response = await self.page.goto(url, wait_until="networkidle")
        assert response is not None
        return response

    async def check(self) -> None:
        """Fails if anything went wrong so far: in the console, the network or the policy."""
        violations = await self.page.evaluate("() => window.violations ?? []")
        assert self.faults + violations == []

    async def every_form(self) -> AsyncIterator[str]:
        """Checks the open page in each size and colour scheme; yields the name of each after
        that.

        A colour scheme changes colours alone, so only the rules about colours look at the second.
        """
        for size in (DESKTOP, PHONE):
            for scheme in SCHEMES:
                await self.show(size, scheme)
                await self.check_access(None if scheme == SCHEMES[0] else COLOUR_RULES)
                await self.check_width()
                yield f"{size[0]}-{scheme}"

    async def check_access(self, rules: Sequence[str] | None = None) -> None:
        """Fails if axe finds a violation of these rules, or of any, in the page as it is shown
        now."""
        options = {"resultTypes": ["violations"]} | ({"runOnly": [*rules]} if rules else {})
        results = await Axe().run(self.page, options=options)
        found = [
            (each["id"], [node["html"][:160] for node in each["nodes"]][:3])
            for each in results.response["violations"]
        ]
        assert found == [], found

    async def show(self, size: tuple[int, int], scheme: Any) -> None:
        """Shows the page in this size and colour scheme, without loading it again."""
        await self.page.set_viewport_size({"width": size[0], "height": size[1]})
        await self.page.emulate_media(color_scheme=scheme)

    async def check_width(self) -> None:
        """Fails if the page is wider than its window."""
        found = await self.page.evaluate(_TOO_WIDE)
        assert found == [], found


@contextlib.asynccontextmanager
async def visiting(
    browser: Browser, console: Console, *, has_scripts: bool = True
) -> AsyncIterator[Visit]:
    """Opens a tab of its own for the person that may do everything."""
    context = await browser.new_context(java_script_enabled=has_scripts)
    await sign_in(context, console)
    page = await context.new_page()
    visit = Visit(page, console.url)
    await page.add_init_script(_VIOLATIONS)
    _watch(visit)
    yield visit
    await context.close()


async def sign_in(context: BrowserContext, console: Console) -> None:
    """Makes the tabs of a context those of the person."""
    await context.add_cookies([{"name": COOKIE, "value": console.session, "url": console.url}])


def _watch(visit: Visit) -> None:
    def requested(request: Request) -> None:
        if not request.url.startswith(visit.origin):
            visit.faults.append(f"request to {urlsplit(request.url).netloc}")

    def answered(response: Response) -> None:
        if response.status >= 400:
            visit.faults.append(f"{response.status} {response.url}")
        visit.weight_bytes += int(response.headers.get("content-length", 0))

    page = visit.page
    page.on("request", requested)
    page.on("response", answered)
    page.on("pageerror", lambda error: visit.faults.append(f"error: {error}"))
    page.on(
        "console",
        lambda message: (
            visit.faults.append(f"{message.type}: {message.text}")
            if message.type in {"error", "warning"}
            else None
        ),
    )

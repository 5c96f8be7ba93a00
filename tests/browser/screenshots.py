"""Makes the pictures of the console in docs/pictures from a running service: `make screenshots`."""

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import Browser

from tests.browser.conftest import Console, browsing, serving
from tests.browser.visit import SCHEMES, visiting
from tests.databases import sqlite_template

FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"
SIZE = (1280, 860)
PICTURES = {
    "fleet": "",
    "past": "?as_of=@1200",
    "rollout": "/rollouts/r_161",
    "plan": "/rollouts/start?model=pump&version=1.6.1&percent=5&after=1+d&percent_2=25&after_2=2+d"
    "&percent_3=100&window_cron=0+2+*+*+1-5&window_for=4+h&window_timezone=Europe/Berlin"
    "&failed_percent=2&failed_reports=50",
    "device": "/devices/pump-002",
    "recall": "/releases/pump/1.6.1/recall",
    "entry": "/log/1/300",
}
"""The pictures by name, and the pages that they show."""

IN_BOTH_SCHEMES = ("fleet", "past")

BYTES_MAX = 200 * 1024


async def take(browser: Browser, console: Console, name: str, path: str) -> None:
    """Takes a picture of the page, of some in each colour scheme."""
    async with visiting(browser, console) as visit:
        for scheme in SCHEMES if name in IN_BOTH_SCHEMES else SCHEMES[:1]:
            await visit.show(SIZE, scheme)
            await visit.open(f"{console.project}{path}")
            file = FOLDER / f"{name}-{scheme}.png"
            picture = await visit.page.screenshot(path=file)
            assert len(picture) < BYTES_MAX, f"{file} has {len(picture)} bytes"
        await visit.check()


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "firmtrail.db"
        path.write_bytes(sqlite_template())
        async with serving(path) as console, browsing() as browser:
            for name, page in PICTURES.items():
                await take(browser, console, name, page)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    asyncio.run(main())

"""A person uploads a file in a browser, sees how far it is, and sends it again after a cut.

FIRMTRAIL_TEST_UPLOAD_MIB=200 uploads a file of that size; the default is a small one.
"""

import os
import re
from hashlib import file_digest
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from firmtrail.projections import releases
from firmtrail.rules.release import ReleaseKey
from tests.browser.conftest import Console
from tests.browser.cut_proxy import cut_proxy
from tests.browser.visit import visiting

pytestmark = pytest.mark.slow

UPLOAD_MIB = int(os.environ.get("FIRMTRAIL_TEST_UPLOAD_MIB", "6"))
MIB = 1024 * 1024
SLOW_S = 20
"""How long the upload would take, slowed down until it is cut."""
DONE_MS_MAX = 240_000

RELEASE = "/releases/valve/2.1.0"


def write_file(path: Path) -> str:
    """Writes a file whose parts all differ; returns its SHA-256."""
    with path.open("wb") as file:
        for n in range(UPLOAD_MIB):
            file.write(n.to_bytes(8) * (MIB // 8))
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


async def slow_down(page: Page, upload_bytes_s: float) -> None:
    """Limits how fast the browser sends."""
    network = await page.context.new_cdp_session(page)
    members = {"offline": False, "latency": 0, "downloadThroughput": -1}
    await network.send("Network.enable")
    await network.send(
        "Network.emulateNetworkConditions", {**members, "uploadThroughput": upload_bytes_s}
    )


async def sent_percent(page: Page) -> int:
    """Waits until a part of the file was sent, and returns how much of it."""
    said = page.locator("form[data-upload] [role=status]")
    await expect(said).to_have_text(re.compile(r"^[1-9][0-9]? % sent$"), timeout=DONE_MS_MAX)
    return int((await said.inner_text()).split()[0])


async def test_an_upload_shows_its_progress_and_is_sent_again_after_a_cut(
    browser: Browser, console: Console, tmp_path: Path
) -> None:
    file = tmp_path / "valve.bin"
    digest = write_file(file)
    port = int(console.url.rpartition(":")[2])
    async with cut_proxy(port) as (proxy, url), visiting(browser, console) as visit:
        page, visit.origin = visit.page, url
        await visit.open(f"{url}/console/demo-fleet{RELEASE}")
        await slow_down(page, UPLOAD_MIB * MIB / SLOW_S)
        await page.locator("input[type=file]").set_input_files(file)
        await page.get_by_role("button", name="Upload").click()
        assert 0 < await sent_percent(page) < 100
        proxy.cut()
        await expect(page.locator("form[data-upload] [role=status]")).to_have_text(
            "The connection broke before the file was complete. Nothing was added."
        )
        [broken] = visit.faults
        assert re.fullmatch(r"error: Failed to load resource: net::ERR_[A-Z_]+", broken)
        found = await releases.live(console.db, console.log_id)
        assert digest not in str(found[ReleaseKey("valve", "2.1.0")].artifacts)
        proxy.mend()
        await slow_down(page, -1)
        await page.get_by_role("button", name="Send again").click()
        row = page.get_by_role("row").filter(has_text=digest)
        await expect(row).to_contain_text("valve.bin", timeout=DONE_MS_MAX)
        await expect(row).to_contain_text(f"{UPLOAD_MIB}.0")
        assert await page.get_by_text(digest).count() == 1

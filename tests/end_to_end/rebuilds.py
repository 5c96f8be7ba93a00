"""Fills a log so that a rebuild of its views takes a while, and requests the rebuild."""

import random
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, UnixConnector

from firmtrail.recording.recorder import Recorder
from tests.databases import opened
from tests.end_to_end.site import Site
from tests.fleet import NOON_MS, report

REPORTS = 6_000
DEVICES = [f"old-{number}" for number in range(300)]


async def fill(site: Site) -> None:
    """Records so many reports, a fourth of them late, that a rebuild takes a while."""
    chance = random.Random(3)
    async with opened(site.database) as db:
        recorder = Recorder(db)
        for start in range(0, REPORTS, 500):
            sent = [
                report(
                    f"1.{chance.randrange(9)}.0",
                    device=chance.choice(DEVICES),
                    occurred_at_ms=NOON_MS + number + chance.choice((0, 0, 0, -REPORTS)),
                )
                for number in range(start, start + 500)
            ]
            await recorder.report(site.log_id, sent)
        await recorder.close()


async def rebuild_of(socket: Path, method: str) -> Any:
    """Requests a rebuild of all views with POST, or its state with GET."""
    async with ClientSession("http://local", connector=UnixConnector(str(socket))) as session:
        path = "/local/projects/acme/rebuild"
        body: dict[str, str] | None = {} if method == "POST" else None
        async with session.request(method, path, json=body) as response:
            assert response.ok, await response.text()
            return await response.json()

"""SQLite's write-ahead log is emptied while readers read, however slow they are."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession

from firmtrail.eventstore.sqlite import CHECKPOINT_PAGES
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import P, Site, get, new_site, post

DEVICES = [f"d{number}" for number in range(500)]
WRITERS = 3
READERS = 3
ARRAYS_EACH = 60
ARRAY_REPORTS = 300
PAGE_BYTES = 4096
WAL_BYTES_MAX = 2 * CHECKPOINT_PAGES * PAGE_BYTES


async def test_the_write_ahead_log_stays_small(serve: Serve, sqlite_url: str) -> None:
    site = await new_site(sqlite_url, DEVICES)
    server = serve(sqlite_url)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    wal = file.with_name(f"{file.name}-wal")
    largest = 0
    async with ledger.session() as session:
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(write(session, server.url, site)) for _ in range(WRITERS)]
            async with slow_reader(session, server.url, site), asyncio.TaskGroup() as reading:
                readers = [
                    reading.create_task(read(session, server.url, site)) for _ in range(READERS)
                ]
                while not all(task.done() for task in writing):
                    largest = max(largest, wal.stat().st_size)
                    await asyncio.sleep(0.02)
                for reader in readers:
                    reader.cancel()
    print("WAL", largest, file.stat().st_size)
    assert file.stat().st_size > WAL_BYTES_MAX, "too little was written to show anything"
    assert largest < WAL_BYTES_MAX


async def write(session: ClientSession, url: str, site: Site) -> None:
    for _ in range(ARRAYS_EACH):
        reports = [
            ledger.new_report(random.choice(DEVICES), f"{random.getrandbits(64):016x}")
            for _ in range(ARRAY_REPORTS)
        ]
        body = [{**report, "device": random.choice(DEVICES)} for report in reports]
        assert (await post(session, f"{url}{P}/reports", site.gateway, body)).status == 201


async def read(session: ClientSession, url: str, site: Site) -> None:
    while True:
        for path in (f"{P}/devices?limit=200", f"{P}/events?limit=2000", f"{P}/versions"):
            assert (await get(session, f"{url}{path}", site.admin)).status == 200


@asynccontextmanager
async def slow_reader(session: ClientSession, url: str, site: Site) -> AsyncIterator[None]:
    """Takes the log a little at a time, and has not seen its end when the writers have ended."""

    async def take() -> None:
        headers = {"Authorization": f"Bearer {site.admin}"}
        async with session.get(f"{url}{P}/events", headers=headers) as response:
            while await response.content.read(1024):
                await asyncio.sleep(0.05)
        raise AssertionError("the slow reader was not slow")

    task = asyncio.create_task(take())
    yield
    task.cancel()
    await asyncio.wait([task])

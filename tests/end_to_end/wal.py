"""Writes to a SQLite server and measures its WAL."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import ClientSession

from firmtrail.database.sqlite_connection import WAL_BYTES_KEPT_MAX
from tests.end_to_end import ledger
from tests.end_to_end.site import P, Site, post

DEVICES = [f"d{number}" for number in range(500)]
ARRAY_REPORTS = 300
WAL_BYTES_MAX = 2 * WAL_BYTES_KEPT_MAX
"""The size kept after a checkpoint, and what is written until no reader prevents a restart."""


def size(wal: Path) -> int:
    return wal.stat().st_size


async def write(session: ClientSession, url: str, site: Site) -> None:
    while True:
        names = random.choices(DEVICES, k=ARRAY_REPORTS)
        body = [
            {**ledger.new_report(name, f"{random.getrandbits(64):016x}"), "device": name}
            for name in names
        ]
        assert (await post(session, f"{url}{P}/reports", site.gateway, body)).status == 201


@asynccontextmanager
async def running(*loads: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Runs loads until the block ends; a load that fails ends the block too."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(load) for load in loads]
        yield
        for task in started:
            task.cancel()

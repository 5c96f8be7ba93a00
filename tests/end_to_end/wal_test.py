"""SQLite's write-ahead log stays small under load: it restarts again and again, however slow
readers are."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import ClientSession

from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import P, Site, get, new_site
from tests.end_to_end.wal import DEVICES, WAL_BYTES_MAX, running, size, write

WRITERS = 3
READERS = 3
RESTARTS = 3
RESTARTS_SECONDS_MAX = 90


async def test_the_write_ahead_log_stays_small(serve: Serve, sqlite_url: str) -> None:
    site = await new_site(sqlite_url, DEVICES)
    server = serve(sqlite_url, f"--write-timeout={10 * RESTARTS_SECONDS_MAX}")
    wal = Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal")
    async with ledger.session() as session:
        writers = [write(session, server.url, site) for _ in range(WRITERS)]
        async with running(*writers):
            await until_restarted(wal, 1)  # then there is something to stream
            readers = [read(session, server.url, site) for _ in range(READERS)]
            async with slow_reader(server.url, site), running(*readers):
                await until_restarted(wal, RESTARTS)
                counted = (await get(session, f"{server.url}/metrics")).body
                assert b"/events" not in counted, "the slow reader was not slow"


async def until_restarted(wal: Path, times: int) -> None:
    last = restarts(wal) + times
    async with asyncio.timeout(RESTARTS_SECONDS_MAX):
        while restarts(wal) < last:
            assert size(wal) < WAL_BYTES_MAX
            await asyncio.sleep(0.02)


def restarts(wal: Path) -> int:
    """Returns how often the file was restarted: its checkpoint sequence number (SQLite, "WAL-mode
    File Format", 3)."""
    with wal.open("rb") as file:
        return int.from_bytes(file.read(16)[12:], "big")


async def read(session: ClientSession, url: str, site: Site) -> None:
    while True:
        for path in (f"{P}/devices?limit=200", f"{P}/versions"):
            assert (await get(session, f"{url}{path}", site.admin)).status == 200


@asynccontextmanager
async def slow_reader(url: str, site: Site) -> AsyncIterator[None]:
    """Requests the whole log, and reads nothing of it."""
    parts = urlsplit(url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((parts.hostname, parts.port))
        head = f"GET {P}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.admin}\r\n\r\n"
        connection.sendall(head.encode())
        yield

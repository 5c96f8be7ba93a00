"""Readers that take nothing cost nobody anything: not the writers, not the other readers, not the
server's memory, not the write-ahead log; and they are cut off."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from itertools import batched
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from aiohttp import ClientSession

from firmtrail.recording.recorder import Recorder
from tests.databases import opened
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import P, Site, get, new_site, post
from tests.end_to_end.wal import DEVICES, WAL_BYTES_MAX, running, size, write
from tests.fleet import report

STALLED = 12
WRITE_TIMEOUT_S = 3
EVENTS_BEFORE = 12_000
REQUESTS = 40
SLOWER_MAX = 5
MEMORY_MIB_A_READER_MAX = 4


async def test_stalled_readers_slow_down_no_other_client(serve: Serve, sqlite_url: str) -> None:
    site = await new_site(sqlite_url, DEVICES)
    await fill(site)
    server = serve(sqlite_url, f"--write-timeout={WRITE_TIMEOUT_S}")
    wal = Path(f"{sqlite_url.removeprefix('sqlite:///')}-wal")
    async with ledger.session() as session, running(write(session, server.url, site)):
        alone_s = await latency_s(session, server.url, site)
        memory_mib = resident_mib(server.pid)
        with stalled(server.url, site) as connections:
            with_stalled_s = await latency_s(session, server.url, site)
            assert resident_mib(server.pid) < memory_mib + STALLED * MEMORY_MIB_A_READER_MAX
            assert size(wal) < WAL_BYTES_MAX
            await until_cut_off(connections)
    assert with_stalled_s < SLOWER_MAX * alone_s, (with_stalled_s, alone_s)
    assert len(server.said("stream broken")) == STALLED


async def fill(site: Site) -> None:
    """Records more than sockets can buffer, so that the server waits for readers that read
    nothing."""
    async with opened(site.database) as db:
        recorder = Recorder(db)
        for some in batched(range(EVENTS_BEFORE), 500):
            reports = [
                report(f"1.0.{n}", device=DEVICES[n % len(DEVICES)], report_id=f"{n}") for n in some
            ]
            await recorder.report(site.log_id, reports)
        await recorder.close()


async def latency_s(session: ClientSession, url: str, site: Site) -> float:
    """Returns the median latency of reports and reads that another client sends meanwhile."""
    took = []
    for n in range(REQUESTS):
        device = DEVICES[n]
        body = ledger.new_report(device, f"{time.time_ns():x}")
        began = time.perf_counter()
        sent = await post(session, f"{url}{P}/devices/{device}/reports", site.secrets[device], body)
        read = await get(session, f"{url}{P}/devices/{device}/history", site.admin)
        assert (sent.status, read.status) == (201, 200)
        took.append(time.perf_counter() - began)
    return median(took)


@contextlib.contextmanager
def stalled(url: str, site: Site) -> Iterator[list[socket.socket]]:
    """Opens readers: half request the log, half follow it from its start; none reads a byte."""
    parts = urlsplit(url)
    with contextlib.ExitStack() as stack:
        connections = []
        for n in range(STALLED):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((parts.hostname, parts.port))
            path = f"{P}/events" if n % 2 else f"{P}/stream?from=0"
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.admin}\r\n\r\n"
            connection.sendall(head.encode())
            connections.append(connection)
        yield connections


async def until_cut_off(connections: list[socket.socket]) -> None:
    """Waits until each connection is reset, not closed: a close could pass for the end of the log.
    The kernel reports it without a read."""
    async with asyncio.timeout(WRITE_TIMEOUT_S * 5):
        for connection in connections:
            while connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                await asyncio.sleep(0.05)


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kib] = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return kib / 1024

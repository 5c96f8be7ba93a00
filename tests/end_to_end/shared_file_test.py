"""Several processes serve one SQLite file, and one more writes it. Any of them may be killed, and
whatever happens in one is seen by all."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from firmtrail.database import file_lock
from tests.end_to_end import ledger
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.hearing import HEARD_S_MAX, hear, run_bad_version
from tests.end_to_end.ledger import Unit, new_report
from tests.end_to_end.processes import Server, children, workers, writer
from tests.end_to_end.rebuilds import DEVICES, fill, rebuild_of
from tests.end_to_end.site import MODEL, P, entries, get, new_site, post
from tests.end_to_end.truth import untruths
from tests.end_to_end.waiting import wait_until
from tests.patience import PATIENCE_S
from tests.ports import free_port

WORKERS = 2
CLIENTS = 6
ROUNDS = 3
"""A worker notices within a second that the first process has ended, and then ends its requests."""
CONNECTIONS_MAX = 100


async def test_any_process_may_be_killed_and_nothing_is_lost(serve: Serve, sqlite_url: str) -> None:
    site, clients = await ledger.new_writers(sqlite_url, CLIENTS)
    server = serve(sqlite_url, "--workers", str(WORKERS))
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    async with ledger.session() as session:
        for turn in range(ROUNDS):
            async with ledger.load(session, clients, server.url):
                for of_kind in (random_worker, writer, random_worker, writer):
                    await ledger.until_all_go_on(clients)
                    await kill(server, of_kind(server.pid))
                await ledger.until_all_go_on(clients)
                processes, writing = children(server.pid), writer(server.pid)
                server.kill_alone()
                if turn % 2 and writing is not None:
                    os.kill(writing, signal.SIGKILL)  # and nobody starts another one
            await asyncio.to_thread(wait_until, partial(are_gone, processes))
            assert not file_lock.is_locked(path)
            server.start()
            assert ledger.faults(clients, await entries(session, server.url, site)) == []
        await ledger.settle(session, clients, server.url)
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert not file_lock.is_locked(path)
    audited = firmtrail(sqlite_url, "audit", "verify", "--project", "acme")
    assert audited.exit_code == 0, audited.said
    assert await untruths(site) == []


def random_worker(pid: int) -> int:
    return random.choice(workers(pid))


async def kill(server: Server, killed: int | None) -> None:
    """Kills a process, and waits until the first process has replaced it."""
    assert killed is not None
    os.kill(killed, signal.SIGKILL)

    def is_replaced() -> bool:
        now = children(server.pid)
        return killed not in now and len(now) == WORKERS + 1 and writer(server.pid) is not None

    await asyncio.to_thread(wait_until, is_replaced)


def are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def test_a_writer_that_is_killed_is_replaced_once_for_all_workers(
    serve: Serve, sqlite_url: str
) -> None:
    await new_site(sqlite_url, [])
    server = serve(sqlite_url, "--workers", str(WORKERS))
    wait_until(lambda: len(workers(server.pid)) == WORKERS)
    first, before = writer(server.pid), workers(server.pid)
    await kill(server, first)
    assert workers(server.pid) == before
    assert len(server.said("the process that writes has ended")) == 1
    assert firmtrail(sqlite_url, "project", "add", "another").exit_code == 0


async def test_a_stalled_worker_keeps_no_other_from_writing(serve: Serve, sqlite_url: str) -> None:
    """It is stopped in the middle of requests, and continued later."""
    site, clients = await ledger.new_writers(sqlite_url, CLIENTS)
    server = serve(sqlite_url, "--workers", str(WORKERS))
    async with ledger.session() as session, one_session_for_each_worker(server) as each:
        (stalled, _), (_, other) = each.items()
        async with ledger.load(session, clients, server.url):
            await ledger.until_all_go_on(clients)
            os.kill(stalled, signal.SIGSTOP)
            device = clients[0].devices[0]
            unit = Unit(device, [new_report(device, "one-stands-still")], is_array=False)
            assert await clients[0].send(other, server.url, unit)
            os.kill(stalled, signal.SIGCONT)
            await ledger.until_all_go_on(clients)
        await ledger.settle(session, clients, server.url)
    server.kill()
    assert await untruths(site) == []


async def test_a_rebuild_whose_worker_was_killed_is_continued_by_another(
    serve: Serve, sqlite_url: str
) -> None:
    site = await new_site(sqlite_url, DEVICES)
    await fill(site)
    server = serve(sqlite_url, "--workers", str(WORKERS))
    path = Path(f"{sqlite_url.removeprefix('sqlite:///')}.sock")
    assert (await rebuild_of(path, "POST"))["views"]
    for worker in workers(server.pid):
        os.kill(worker, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_S):
        assert (await rebuild_of(path, "GET"))["views"], "it was not interrupted"
        while (state := await rebuild_of(path, "GET"))["views"]:
            await asyncio.sleep(0.1)
    assert state["failure"] is None
    server.kill()
    assert await untruths(site) == []


async def test_an_order_at_one_worker_wakes_a_device_that_waits_at_another(
    serve: Serve, sqlite_url: str
) -> None:
    names = ["d0", "d1"]
    site = await new_site(sqlite_url, names)
    server = serve(sqlite_url, "--workers", str(WORKERS))
    async with one_session_for_each_worker(server) as each:
        waiting, ordering = each.values()
        await run_bad_version(ordering, server.url, site, names)
        device = asyncio.create_task(hear(waiting, f"{server.url}{P}/devices/d0", site, "d0"))
        await asyncio.sleep(1)
        assert not device.done()
        wish = {"model": MODEL, "bad_version": "1.1.0", "to": "previous", "reason": "It sticks."}
        began = monotonic()
        answer = await post(ordering, f"{server.url}{P}/rollbacks", site.admin, wish)
        assert answer.status == 201, answer
        assert await device - began < HEARD_S_MAX


async def test_a_stream_of_one_worker_has_the_events_of_another(
    serve: Serve, sqlite_url: str
) -> None:
    site = await new_site(sqlite_url, ["d0"])
    server = serve(sqlite_url, "--workers", str(WORKERS))
    headers = {"Authorization": f"Bearer {site.admin}"}
    async with one_session_for_each_worker(server) as each:
        streaming, reporting = each.values()
        url = f"{server.url}{P}/devices/d0/reports"
        async with streaming.get(f"{server.url}{P}/stream", headers=headers) as stream:
            assert stream.status == 200
            for number in range(3):
                body = {"version": f"7.0.{number}"}
                assert (await post(reporting, url, site.secrets["d0"], body)).status == 201
                async with asyncio.timeout(PATIENCE_S):
                    await stream.content.readuntil(f"7.0.{number}".encode())


def is_there(path: str) -> bool:
    return Path(path).exists()


async def test_commands_and_links_reach_the_workers(serve: Serve, sqlite_url: str) -> None:
    site = await new_site(sqlite_url, ["d0"])
    server = serve(sqlite_url, "--workers", str(WORKERS))
    link = firmtrail(sqlite_url, "console", "admin@example.org", "--no-browser")
    assert link.out.startswith(f"{server.url}/"), link.said
    doctor = firmtrail(sqlite_url, "doctor", "--json")
    assert "taken by a running server" in doctor.out
    done = firmtrail(sqlite_url, "rebuild", "--project", "acme", "--json")
    assert done.exit_code == 0, done.said
    refused = firmtrail(sqlite_url, "serve", "--port", "0", "--workers", "2")
    assert refused.exit_code == 2
    assert "only one server may serve a file" in refused.said
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert not is_there(f"{sqlite_url.removeprefix('sqlite:///')}.sock")
    assert await untruths(site) == []


@contextlib.asynccontextmanager
async def one_session_for_each_worker(server: Server) -> AsyncIterator[dict[int, ClientSession]]:
    """Yields, by worker, a session that reaches only this worker: it keeps one connection."""
    wait_until(lambda: len(workers(server.pid)) == WORKERS)
    found: dict[int, ClientSession] = {}
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CONNECTIONS_MAX):
            port = free_port()
            connector = TCPConnector(limit=1, local_addr=("127.0.0.1", port))
            session = ClientSession(connector=connector, timeout=ClientTimeout(total=60))
            await stack.enter_async_context(session)
            assert (await get(session, f"{server.url}/healthz")).status == 200
            found.setdefault(worker_at(server, port), session)
            if len(found) == WORKERS:
                yield found
                return
    raise AssertionError(f"all {CONNECTIONS_MAX} connections came to the same worker")


def worker_at(server: Server, client_port: int) -> int:
    """Returns the worker whose connection leads to this port (proc_pid_net(5), proc_pid_fd(5))."""
    ports = f":{urlsplit(server.url).port:04X}", f":{client_port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = [row[9] for row in rows if row[1].endswith(ports[0]) and row[2].endswith(ports[1])]
    for pid in workers(server.pid):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(link.readlink()) == f"socket:[{inode}]":
                    return pid
    raise AssertionError("no worker has the connection")

"""Several servers on one Postgres are one service, and so are several workers on one file."""

import asyncio
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientSession

from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.ledger import Unit, Writer
from tests.end_to_end.processes import workers
from tests.end_to_end.site import P, Site, entries, get, post, post_and_hang_up
from tests.end_to_end.truth import untruths
from tests.patience import PATIENCE_S

CLIENTS = 8
REQUESTS_EACH = 120
READS = 60
READER = "reader"
CUT = 0.05
REUSED = 0.01


class RoughWriter(Writer):
    """Hangs up before some replies, and uses some report ids for a second report."""

    conflicts_sent = 0
    conflicts_seen = 0

    async def rough(self, session: ClientSession, urls: list[str]) -> None:
        for _ in range(REQUESTS_EACH):
            if not self.unanswered:
                self.unanswered.append(self._unit())
            unit = self.unanswered[0]
            if random.random() < CUT:
                await self.send_and_hang_up(random.choice(urls), unit)
            elif await self.twice(session, urls, unit):
                self.unanswered.popleft()
            if self.acknowledged and random.random() < REUSED:
                await self.reuse(session, random.choice(urls))

    async def twice(self, session: ClientSession, urls: list[str], unit: Unit) -> bool:
        """Sends a unit to both servers in parallel, one time in ten, and otherwise to either."""
        if random.random() < 0.1:
            return all(await asyncio.gather(*(self.send(session, url, unit) for url in urls)))
        return await self.send(session, random.choice(urls), unit)

    async def send_and_hang_up(self, url: str, unit: Unit) -> None:
        """Sends the whole request, and hangs up before the answer."""
        for report in unit.reports:
            self.sent[self.key(unit, report)] = report
        path, credential = self.target(unit)
        body = unit.reports if unit.is_array else unit.reports[0]
        await post_and_hang_up(f"{url}{path}", credential, body, random.choice([0, 0.001, 0.01]))

    async def reuse(self, session: ClientSession, url: str) -> None:
        device, report_id = random.choice(list(self.acknowledged))
        body = {"version": "99.0.0", "report_id": report_id}
        path, credential = self.target(Unit(device, [body], is_array=False))
        answer = await post(session, f"{url}{path}", credential, body)
        self.conflicts_sent += 1
        self.conflicts_seen += answer.status == 409 and answer.json["code"] == "report_id_reused"


async def test_two_servers_record_each_report_once(serve: Serve, postgres_url: str) -> None:
    site, _ = await ledger.new_writers(postgres_url, CLIENTS, READER)
    await record_each_report_once(site, [serve(postgres_url).url, serve(postgres_url).url])
    assert await untruths(site) == []


async def test_two_workers_on_a_file_record_each_report_once(serve: Serve, sqlite_url: str) -> None:
    site, _ = await ledger.new_writers(sqlite_url, CLIENTS, READER)
    server = serve(sqlite_url, "--workers", "2")
    await record_each_report_once(site, [server.url] * 2)
    server.kill()
    assert await untruths(site) == []


async def record_each_report_once(site: Site, urls: list[str]) -> None:
    """Sends to both, or for workers of one server to both of them, as the kernel chooses."""
    writers = [RoughWriter(site, number, duplicates=0.2) for number in range(CLIENTS)]
    async with ledger.session() as session:
        async with asyncio.TaskGroup() as tasks:
            for writer in writers:
                tasks.create_task(writer.rough(session, urls))
            tasks.create_task(see_receipts_on_the_other(session, urls, site))
        await ledger.settle(session, writers, urls[0])
        assert await entries(session, urls[0], site) == await entries(session, urls[1], site)
    assert sum(writer.conflicts_seen for writer in writers) == sum(
        writer.conflicts_sent for writer in writers
    )


async def see_receipts_on_the_other(session: ClientSession, urls: list[str], site: Site) -> None:
    """Asserts that what one server acknowledges is immediately in the answers of the other."""
    device, secret = f"{P}/devices/{READER}", site.secrets[READER]
    for seq in range(READS):
        here, there = random.sample(urls, 2)
        version = f"2.0.{seq}"
        body = {"version": version, "seq": seq}
        receipt = (await post(session, f"{here}{device}/reports", secret, body)).json
        paths = (device, f"{device}/history", f"{P}/versions?limit=500")
        seen, history, versions = await asyncio.gather(
            *(get(session, f"{there}{path}", site.admin) for path in paths)
        )
        assert min(seen.log_size, history.log_size, versions.log_size) > receipt["position"]
        assert seen.json["version"] == version
        assert history.json["items"][0]["position"] == receipt["position"]
        running = {item["version"]: item["devices"] for item in versions.json["items"]}
        assert running[version] == 1


async def test_workers_are_processes_and_one_may_die(serve: Serve, database_url: str) -> None:
    site, writers = await ledger.new_writers(database_url, CLIENTS)
    server = serve(database_url, "--workers", "2")
    async with ledger.session() as session:
        async with ledger.load(session, writers, server.url):
            await until(lambda: len(workers(server.pid)) == 2)
            await ledger.until_all_go_on(writers)
            # The process with connections: on a slow machine the other may not serve yet.
            killed = max(workers(server.pid), key=connections)
            os.kill(killed, signal.SIGKILL)
            await until(lambda: len({killed, *workers(server.pid)}) == 3)
            await asyncio.sleep(0.5)
        await ledger.settle(session, writers, server.url)
    assert sum(writer.interrupted for writer in writers) > 0
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert await untruths(site) == []


def connections(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def until(is_reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_reached():
            await asyncio.sleep(0.05)

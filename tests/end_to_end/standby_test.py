"""A standby answers reads, and never with less than the caller has a receipt for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families

from firmtrail.access import people
from firmtrail.http.sessions import COOKIE
from tests.databases import migrate_now, opened
from tests.end_to_end import ledger
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.ledger import Writer
from tests.end_to_end.processes import Server, frozen
from tests.end_to_end.site import P, Site, get, post
from tests.end_to_end.truth import untruths
from tests.patience import PATIENCE_S
from tests.people import begin_session, new_access
from tests.postgres_server import PostgresServer, Standby

WRITERS = 3
READER = "reader"
READS = 40

_numbers = count(1)


@dataclass(frozen=True)
class Pair:
    """Holds a database on a primary and on its standby, with two servers: `writing` knows nothing
    of the standby, and `reading` reads from it."""

    primary: PostgresServer
    standby: Standby
    url: str
    standby_url: str
    site: Site
    writers: list[Writer]
    writing: Server
    reading: Server
    cookie: str
    """The session of an admin, which opens pages."""


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def pair(primary: PostgresServer, serve: Serve) -> AsyncIterator[Pair]:
    url = primary.create_database(f"pair_{next(_numbers)}")
    migrate_now(url)
    with Standby(primary) as standby:
        there = url.replace(f"host={primary.folder}", f"host={standby.folder}")
        site, writers = await ledger.new_writers(url, WRITERS, READER)
        writing, reading = serve(url), serve(url, "--read-database", there)
        cookie = await signed_in(url)
        yield Pair(primary, standby, url, there, site, writers, writing, reading, cookie)


async def signed_in(url: str) -> str:
    async with opened(url) as db:
        access, admin = new_access(db), await people.by_email(db, "admin@example.org")
        assert admin is not None
        session = await begin_session(db, access, admin.actor_id)
        access.hasher.close()
        return f"{COOKIE}={session}"


async def see_page(session: ClientSession, pair: Pair, path: str) -> str:
    """Returns the text of a page of the project, from the server that reads from the standby."""
    url = f"{pair.reading.url}/console/acme/{path}"
    async with session.get(url, headers={"Cookie": pair.cookie}, allow_redirects=False) as answer:
        assert answer.status == 200
        return await answer.text()


async def reads(session: ClientSession, server: Server) -> dict[str, int]:
    """Returns how many answers came from each database."""
    text = (await get(session, f"{server.url}/metrics")).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families["firmtrail_standby_reads"].samples
    return {
        each.labels["database"]: int(each.value) for each in samples if each.name.endswith("_total")
    }


async def until_used(session: ClientSession, pair: Pair) -> None:
    """Waits until the standby answers."""
    url = f"{pair.reading.url}{P}/devices"
    async with asyncio.timeout(PATIENCE_S):
        while True:
            before = (await reads(session, pair.reading)).get("standby", 0)
            await get(session, url, pair.site.admin)
            if (await reads(session, pair.reading)).get("standby", 0) > before:
                return
            await asyncio.sleep(0.1)


async def see_receipts(session: ClientSession, pair: Pair, number: int = READS) -> None:
    """Asserts that each answer has the event of the receipt that the caller just got elsewhere."""
    report, secret = f"{P}/devices/{READER}/reports", pair.site.secrets[READER]
    for _ in range(number):
        seq = next(_numbers)
        body = {"version": f"3.0.{seq}", "seq": seq}
        answer = await post(session, f"{pair.writing.url}{report}", secret, body)
        assert answer.status == 201, answer
        await see(session, pair, answer.json["position"], body)


async def see(session: ClientSession, pair: Pair, position: int, body: dict[str, Any]) -> None:
    paths = (
        f"{P}/events?from={position}&to={position + 1}",
        f"{P}/events/{position}",
        f"{P}/devices?version={body['version']}",
        f"{P}/versions?limit=500",
        f"{P}/devices?as_of=@{position + 1}&q={READER}",
        f"{P}/log/consistency?from={position}&to={position + 1}",
    )
    answers = await asyncio.gather(
        *(get(session, f"{pair.reading.url}{path}", pair.site.admin) for path in paths)
    )
    assert [answer.status for answer in answers] == [200] * 6, answers
    entries, entry, devices, versions, past = answers[:5]
    assert min(entries.log_size, entry.log_size, devices.log_size, versions.log_size) > position
    assert entries.body == entry.body + b"\n"
    assert entry.json["data"]["version"] == body["version"]
    assert [item["device"] for item in devices.json["items"]] == [READER]
    assert {item["version"]: item["devices"] for item in versions.json["items"]}[body["version"]]
    assert past.json["items"][0]["version"] == body["version"]
    shown = await see_page(session, pair, f"log?below={position + 1}")
    assert f"/console/acme/log/1/{position}" in shown


async def test_under_load_no_answer_is_older_than_the_callers_receipt(pair: Pair) -> None:
    async with ledger.session() as session:
        await until_used(session, pair)
        async with ledger.load(session, pair.writers, pair.writing.url):
            await see_receipts(session, pair)
            await ledger.until_all_go_on(pair.writers)
        found = await reads(session, pair.reading)
        assert found["standby"] > found.get("primary", 0)
        await ledger.settle(session, pair.writers, pair.reading.url)
    assert await untruths(pair.site) == []


async def test_a_standby_may_answer_every_page_of_webhooks_and_of_access(pair: Pair) -> None:
    api, admin = f"{pair.writing.url}{P}", pair.site.admin
    async with ledger.session() as session:
        await until_used(session, pair)
        sends_nothing = {"url": "https://receiver.example.org/", "types": []}
        made = await post(session, f"{api}/webhooks", admin, sends_nothing)
        webhook = f"settings/webhooks/{made.json['id']}"
        token = (await get(session, f"{api}/tokens", admin)).json["items"][0]["id"]
        member = (await get(session, f"{api}/members", admin)).json["items"][0]["actor_id"]
        for page in (
            "settings/webhooks",
            webhook,
            *(f"{webhook}/{asked}" for asked in ("secret", "redeliver", "remove")),
            f"access/tokens/{token}/end",
            f"access/members/{member}/remove",
        ):
            before = sum((await reads(session, pair.reading)).values())
            await see_page(session, pair, page)
            assert sum((await reads(session, pair.reading)).values()) > before, page


async def test_while_the_standby_replays_nothing_the_primary_answers(pair: Pair) -> None:
    async with ledger.session() as session:
        await until_used(session, pair)
        admin = await asyncpg.connect(pair.standby_url)
        await admin.execute("SELECT pg_wal_replay_pause()")
        before = await reads(session, pair.reading)
        await see_receipts(session, pair, 5)
        after = await reads(session, pair.reading)
        assert after["primary"] > before.get("primary", 0)
        assert await lag(session, pair.reading) > 0
        assert (await get(session, f"{pair.reading.url}/readyz")).status == 200
        await admin.execute("SELECT pg_wal_replay_resume()")
        await admin.close()
        await until_used(session, pair)
        await see_receipts(session, pair, 5)
    [said] = pair.reading.said("the primary answers reads")
    assert said["standby_lag_s"] > 0


async def lag(session: ClientSession, server: Server) -> float:
    text = (await get(session, f"{server.url}/metrics")).body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return families["firmtrail_standby_lag_seconds"].samples[0].value


async def test_while_the_standby_is_down_no_read_fails(pair: Pair) -> None:
    async with ledger.session() as session:
        await until_used(session, pair)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(see_receipts(session, pair))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(pair.standby.crash)
            await reading
        assert (await get(session, f"{pair.reading.url}/readyz")).status == 200
        await asyncio.to_thread(pair.standby.start)
        await until_used(session, pair)
        await see_receipts(session, pair, 5)


async def test_while_the_standby_does_not_answer_the_primary_does(pair: Pair) -> None:
    async with ledger.session() as session:
        await until_used(session, pair)
        with frozen(pair.standby):
            await see_receipts(session, pair, 3)
        await until_used(session, pair)


async def test_a_stream_from_the_standby_has_every_event_in_order(pair: Pair) -> None:
    async with ledger.session() as session:
        await until_used(session, pair)
        headers = {"Authorization": f"Bearer {pair.site.admin}"}
        async with session.get(f"{pair.reading.url}{P}/stream?from=0", headers=headers) as stream:
            assert stream.status == 200
            async with ledger.load(session, pair.writers, pair.writing.url):
                await asyncio.sleep(0.5)
                await asyncio.to_thread(pair.standby.crash)  # the stream continues on the primary
                await ledger.until_all_go_on(pair.writers)
            answer = await get(session, f"{pair.writing.url}{P}/events", pair.site.admin)
            entries = answer.body.splitlines()
            found = [await anext_data(stream.content) for _ in entries]
        assert found == list(enumerate(entries))


async def anext_data(content: Any) -> tuple[int, bytes]:
    """Returns the position and the entry of the stream's next event."""
    position = -1
    async with asyncio.timeout(PATIENCE_S):
        while not (line := await content.readline()).startswith(b"data: "):
            if line.startswith(b"id: "):
                position = int(line.removeprefix(b"id: "))
    return position, line.removeprefix(b"data: ").removesuffix(b"\n")


async def test_a_read_from_the_standby_is_in_the_access_record(pair: Pair) -> None:
    async with ledger.session() as session:
        await until_used(session, pair)
        await get(session, f"{pair.reading.url}{P}/events?from=0&to=1", pair.site.admin)
        answer = await get(session, f"{pair.reading.url}{P}/access-record", pair.site.admin)
    [read] = [item for item in answer.json["items"] if item["path"] == "/events"]
    assert read["asked"] == {"log": 1, "from": 0, "to": 1}


async def test_doctor_says_whether_the_standby_can_answer(pair: Pair) -> None:
    async def found(url: str) -> tuple[str, str]:
        done = await asyncio.to_thread(
            firmtrail, pair.url, "doctor", "--json", "--read-database", url
        )
        [row] = [row for row in done.json if row["check"] == "read database"]
        return row["verdict"], row["found"]

    assert (await found(pair.standby_url))[0] == "ok"
    assert (await found(pair.url))[0] == "fail"
    other = pair.primary.create_database(f"other_{next(_numbers)}")
    verdict, says = await found(other)
    assert (verdict, "not a physical copy" in says) == ("fail", True)
    await asyncio.to_thread(pair.standby.stop)
    verdict, says = await found(pair.standby_url)
    assert (verdict, "the database answers all reads" in says) == ("warn", True)


async def test_a_server_refuses_a_read_database_that_is_not_its_standby(pair: Pair) -> None:
    for url, reason in (
        (pair.url, "takes writes itself"),
        ("sqlite:///other.db", "the URL of a standby"),
        ("postgresql://a@one,two/firmtrail", "must name one host"),
    ):
        done = await asyncio.to_thread(
            firmtrail, pair.url, "serve", "--no-publishing", "--port", "0", "--read-database", url
        )
        assert (done.exit_code, reason in " ".join(done.said.split())) == (2, True), done.said


async def test_a_server_starts_and_is_ready_without_its_standby(pair: Pair, serve: Serve) -> None:
    await asyncio.to_thread(pair.standby.stop)
    server = serve(pair.url, "--read-database", pair.standby_url)
    async with ledger.session() as session:
        assert (await get(session, f"{server.url}/readyz")).status == 200
        answer = await get(session, f"{server.url}{P}/devices?count=true", pair.site.admin)
    assert (answer.status, answer.json["total"]) == (200, len(pair.site.secrets))


def test_a_standby_of_a_file_is_refused(tmp_path: Path) -> None:
    url = "postgresql://a@one/firmtrail"
    done = firmtrail(f"sqlite:///{tmp_path}/a.db", "serve", "--read-database", url)
    assert (done.exit_code, "a file has none" in done.said) == (2, True)

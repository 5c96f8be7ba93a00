"""Tests streams of the log: events arrive as any server records them, and readers can resume."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from aiohttp import ClientPayloadError, ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from firmtrail.application import app
from firmtrail.events.entry import envelope_of
from firmtrail.eventstore import log
from firmtrail.http import respond
from firmtrail.http.api import stream
from firmtrail.http.callers import Caller
from firmtrail.http.concurrency import ConcurrencyLimit
from firmtrail.http.errors import TooManyRequests
from firmtrail.recording.recorder import Recorder
from tests.databases import new_log, opened, write
from tests.fleet import receipts, register, report
from tests.patience import PATIENCE_S
from tests.people import new_access
from tests.service.routes import assert_is_problem
from tests.service.site import P, Site
from tests.serving import Answer

READERS = 60


class Happened(NamedTuple):
    """Holds a server-sent event."""

    id: str
    event: str
    data: str


class Reader:
    """Reads a stream field by field, as the standard says (WHATWG HTML, 9.2.6)."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def block(self) -> dict[str, str]:
        """Returns the fields up to the next blank line; a comment's name is ""."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.response.content.readline()).decode().rstrip("\n"):
                name, _, value = line.partition(":")
                assert name not in fields
                fields[name] = value.removeprefix(" ")
        return fields

    async def next(self, count: int) -> list[Happened]:
        found: list[Happened] = []
        while len(found) < count:
            fields = await self.block()
            if "data" in fields:
                found.append(Happened(**fields))
        return found


@contextlib.asynccontextmanager
async def following(
    site: Site, query: str = "", caller: str = "auditor", **headers: str
) -> AsyncIterator[Reader]:
    sent = {"Authorization": f"Bearer {site.credentials[caller]}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with site.client.get(f"{P}/stream{query}", headers=sent) as response:
        assert response.status == 200, await response.read()
        assert response.headers["Content-Type"] == "text/event-stream"
        reader = Reader(response)
        assert await reader.block() == {"retry": "2000"}
        yield reader


async def in_log(site: Site, start: int) -> list[Happened]:
    size = (await log.head(site.services.db, site.log_id)).size
    return [
        Happened(str(position), envelope_of(text).type, text)
        async for page in log.read(site.services.db, site.log_id, start, size)
        for position, _, text in page
    ]


async def test_a_stream_sends_the_recorded_events_and_then_new_ones(site: Site) -> None:
    before = len(await in_log(site, 0))
    async with following(site, "?from=0") as reader:
        assert await reader.next(before) == await in_log(site, 0)
        for n in range(3):
            await site.report({"version": f"1.{n}.0"})
            assert await reader.next(1) == await in_log(site, before + n)


async def test_without_a_position_a_stream_begins_at_the_logs_end(site: Site) -> None:
    before = len(await in_log(site, 0))
    async with following(site) as reader:
        await site.report({"version": "1.0.0"})
        assert [happened.id for happened in await reader.next(1)] == [str(before)]


async def test_a_reader_that_was_cut_off_continues_after_what_it_has(site: Site) -> None:
    whole = await in_log(site, 0)
    taken: list[Happened] = []
    while len(taken) < len(whole):
        place = {"Last_Event_ID": taken[-1].id} if taken else {}
        async with following(site, "?from=0", **place) as reader:
            taken += await reader.next(min(2, len(whole) - len(taken)))
    assert taken == whole


async def test_a_position_that_the_log_does_not_have_is_refused(site: Site) -> None:
    for query, last, status, code in (
        ("?from=99999", "", 409, "not_this_log"),
        ("", "99999", 409, "not_this_log"),
        ("", "x", 400, "malformed"),
        ("", "-1", 400, "malformed"),
        ("", "1" * 5000, 400, "malformed"),
        ("", "²", 400, "malformed"),
        ("?from=x", "", 422, "invalid"),
    ):
        answer = await site.get(f"{P}/stream{query}", Last_Event_ID=last)
        assert assert_is_problem(answer, status)["code"] == code


async def test_growth_by_another_server_is_seen(site: Site, database_url: str) -> None:
    """On SQLite, which has no second server, another recorder of the process stands for it."""
    async with following(site) as reader, contextlib.AsyncExitStack() as stack:
        db = site.services.db
        if database_url.startswith("postgres"):
            db = await stack.enter_async_context(opened(database_url))
        [receipt] = await receipts(Recorder(db), site.log_id, report(device="d2"))
        assert [happened.id for happened in await reader.next(1)] == [str(receipt.position)]


async def test_many_readers_follow_at_the_cost_of_one_poll(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = 0
    poll = site.services.watch._look

    async def counting() -> None:
        nonlocal polls
        polls += 1
        await poll()

    monkeypatch.setattr(site.services.watch, "_look", counting)
    monkeypatch.setattr(site.services.limits.streams, "_per_owner_max", READERS)
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(following(site)) for _ in range(READERS)]
        loop = asyncio.get_running_loop()
        polls, began = 0, loop.time()
        for n in range(3):
            await register(site.services.recorder, site.log_id, f"new{n}")
            came = await asyncio.gather(*(reader.next(1) for reader in readers))
            assert len({tuple(each) for each in came}) == 1
        assert 0 < polls <= (loop.time() - began) / 0.2 + 1


async def test_the_number_of_streams_is_limited(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site.services.limits.streams, "_per_owner_max", 2)
    async with following(site), following(site):
        answer = await site.get(f"{P}/stream")
        assert_is_problem(answer, 429)
        assert int(answer.headers["Retry-After"]) > 0
        monkeypatch.setattr(site.services.limits.streams, "_per_owner_max", 9)
        monkeypatch.setattr(site.services.limits.streams, "_requests_max", 2)
        answer = await site.get(f"{P}/stream")
        assert_is_problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
    await until_free(site)
    async with following(site):
        pass


async def until_free(site: Site) -> None:
    """Waits until no stream counts: the server notices that a reader left when it sends."""
    async with asyncio.timeout(PATIENCE_S):
        while site.services.limits.streams._open_of:
            await register(site.services.recorder, site.log_id, f"new{await size(site)}")
            await asyncio.sleep(0.05)


async def size(site: Site) -> int:
    return (await log.head(site.services.db, site.log_id)).size


def test_a_project_cannot_use_up_a_limit() -> None:
    limit = ConcurrencyLimit(8)
    a, b = (Caller(kind="user", project=name) for name in ("a", "b"))
    with limit.enter(a), limit.enter(a):
        with pytest.raises(TooManyRequests), limit.enter(a):
            pass
        with limit.enter(b):
            pass
    assert not limit._open_of


def test_a_person_cannot_use_up_a_limit_through_many_projects() -> None:
    limit = ConcurrencyLimit(8)
    calls = [Caller(kind="user", project=f"p{n}", actor_id="u_1") for n in range(3)]
    with limit.enter(calls[0]), limit.enter(calls[1]):
        with pytest.raises(TooManyRequests), limit.enter(calls[2]):
            pass
        with limit.enter(Caller(kind="user", project="p2", actor_id="u_2")):
            pass
    assert not limit._open_of
    assert limit._open == 0


async def test_a_silent_stream_shows_that_it_is_alive(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENT_S_MAX", 0.05)
    async with following(site) as reader:
        assert [await reader.block() for _ in range(3)] == [{"": ""}] * 3


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_revoked_credential_ends_its_stream(
    site: Site, is_busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENT_S_MAX", 10 if is_busy else 0.05)
    monkeypatch.setattr(respond, "CHECK_S", 0.1)
    async with following(site) as reader:
        await write(site.services.db, "UPDATE tokens SET revoked_at_ms = 1 WHERE role = 'auditor'")
        with pytest.raises(ClientPayloadError):
            await read_on(site if is_busy else None, reader)


async def read_on(busy: Site | None, reader: Reader) -> None:
    while not reader.response.content.at_eof():
        if busy is not None:
            await register(busy.services.recorder, busy.log_id, f"new{await size(busy)}")
        await reader.block()


async def test_a_stream_ends_with_its_log_and_refuses_to_continue_in_the_next(site: Site) -> None:
    async with following(site, "?from=0") as reader:
        await reader.next(len(await in_log(site, 0)))
        newest = await new_log(site.services.db)
        await write(
            site.services.db, "UPDATE log_heads SET closed = 1 WHERE log_id = $1", site.log_id
        )
        await write(
            site.services.db, "UPDATE projects SET log_id = $1 WHERE project = 'acme'", newest
        )
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.response.read() == b""
    answer = await site.get(f"{P}/stream", Last_Event_ID="3")
    assert assert_is_problem(answer, 409)["code"] == "not_this_log"


async def test_a_server_that_stops_ends_its_streams_immediately(site: Site) -> None:
    services = app.services(
        site.services.db,
        new_access(site.services.db),
        site.services.recorder,
        site.services.serving,
    )
    server = TestServer(app.build(services))
    await server.start_server(**app.RUNNER_OPTIONS)
    client = TestClient(server)
    there = Site(client, services, site.log_id, site.credentials)
    async with following(there) as reader, asyncio.timeout(PATIENCE_S):
        await server.close()
        assert await reader.response.read() == b""
    await client.close()
    services.access.hasher.close()


async def test_a_head_request_does_not_count_as_a_stream(site: Site) -> None:
    answer = await site.call("HEAD", f"{P}/stream", caller="auditor")
    assert answer == Answer(200, answer.headers, b"")
    assert not site.services.limits.streams._open_of

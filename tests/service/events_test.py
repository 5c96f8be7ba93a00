"""Compares the log over HTTP with a plain model in Python, byte for byte, on each back end."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import make_mocked_request

from firmtrail.database.database import Database
from firmtrail.events.entry import encode
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import DeviceRestored, FirmwareInstalled, UpdateFailed
from firmtrail.events.log import TextErased
from firmtrail.eventstore import log, replay
from firmtrail.http import respond
from firmtrail.http.callers import Caller
from tests.databases import new_log, write
from tests.service.routes import assert_is_problem
from tests.service.site import P, Site

COMMITS = 40
COMMIT_EVENTS_MAX = 8
QUERIES = 120
STREAMS = ("device/pump-1", "device/pump-2", "device/pump", "user/u_1", "event/1")
ACTORS = ("system", "user/u_1", "device/pump-1", "device/pump")


class Stored(NamedTuple):
    """Holds an entry as it is stored, with the parts that a query can filter by."""

    position: int
    recorded_at_ms: int
    text: str

    @property
    def attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = json.loads(self.text)
        return attributes


def some_event(chance: random.Random) -> Event:
    return chance.choice(
        [
            FirmwareInstalled("1.0.0", sent="1.0 \u2028 ü 🛰"),
            UpdateFailed('1.0.0-"type":"firmtrail.DeviceRestored.v1"', status="failed"),
            DeviceRestored(),
            TextErased(1),
        ]
    )


async def append_some(db: Database, log_id: int, chance: random.Random) -> None:
    """Appends some events in one commit, at the time of the previous one or a little later."""
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(log_id))
        head = log.head_of(rows)
        at_ms = head.recorded_at_ms + chance.choice([0, 0, 1, 2, 1500])
        places = range(head.size, head.size + chance.randint(1, COMMIT_EVENTS_MAX))
        recorded = [
            Recorded(
                at,
                at_ms,
                chance.choice(STREAMS),
                f"s.{at}",
                chance.choice(ACTORS),
                some_event(chance),
            )
            for at in places
        ]
        entries = [
            log.NewEntry(each.stream, each.event_id, encode("acme", each)) for each in recorded
        ]
        await tx.run(*log.append(head, entries, [], at_ms))


@pytest.fixture
async def filled(site: Site) -> Site:
    """Returns the site, whose log has some hundred events at many times."""
    chance = random.Random(1)
    for _ in range(COMMITS):
        await append_some(site.services.db, site.log_id, chance)
    return site


async def stored(site: Site, log_id: int | None = None) -> list[Stored]:
    db, log_id = site.services.db, log_id or site.log_id
    size = (await log.head(db, log_id)).size
    return [Stored(*row) async for page in log.read(db, log_id, 0, size) for row in page]


def expected(entries: list[Stored], query: dict[str, Any]) -> list[Stored]:
    """Returns the entries that the query finds, by the definition of the API."""
    found = [entry for entry in entries if is_wanted(entry, query)]
    if query.get("newest_first") == "true":
        found.reverse()
    return found[: query.get("limit", len(found))]


def is_wanted(entry: Stored, query: dict[str, Any]) -> bool:
    attributes = entry.attributes
    types = {attributes["type"], attributes["type"].split(".")[1]}
    return (
        query.get("from", 0) <= entry.position < query.get("to", 2**53)
        and query.get("since", "") <= attributes["time"] < query.get("until", "9999")
        and query.get("actor", attributes["actor"]) == attributes["actor"]
        and is_in_stream(attributes["subject"], query.get("stream", attributes["subject"]))
        and ("type" not in query or bool(types & set(query["type"].split(","))))
    )


def is_in_stream(subject: str, stream: str) -> bool:
    return subject.startswith(stream) if stream.endswith("/") else subject == stream


def queries(entries: list[Stored]) -> Iterator[dict[str, Any]]:
    chance = random.Random(2)
    size = len(entries)
    times = [entry.attributes["time"] for entry in entries]
    choices: dict[str, Callable[[], Any]] = {
        "from": lambda: chance.randint(0, size + 2),
        "to": lambda: chance.randint(0, size + 2),
        "since": lambda: chance.choice(times),
        "until": lambda: chance.choice(times),
        "stream": lambda: chance.choice([*STREAMS, "device/d1", "device/none", "device/", "user/"]),
        "actor": lambda: chance.choice([*ACTORS, "token/t_1"]),
        "newest_first": lambda: "true",
        "type": lambda: chance.choice(
            [
                "FirmwareInstalled",
                "DeviceRestored,TextErased",
                "firmtrail.TextErased.v2",
                "UserErased",
            ]
        ),
        "limit": lambda: chance.randint(1, size),
    }
    for _ in range(QUERIES):
        yield {name: choose() for name, choose in choices.items() if chance.random() < 0.3}


@pytest.mark.parametrize("is_small", [False, True], ids=["pages as they are", "tiny pages"])
async def test_every_filter_finds_what_a_model_finds(
    filled: Site, is_small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tiny pages every stream is too long to be read by its index."""
    if is_small:
        monkeypatch.setattr(replay, "STREAM_EVENTS_MAX", 3)
        monkeypatch.setattr(replay, "WINDOW_POSITIONS", 7)
        monkeypatch.setattr(replay, "PAGE_ENTRIES", 2)
        monkeypatch.setattr(log, "PAGE_ENTRIES", 5)
    entries = await stored(filled)
    found = 0
    for query in queries(entries):
        answer = await filled.get(f"{P}/events?{urlencode(query)}")
        wanted = expected(entries, query)
        assert answer.status == 200, query
        assert answer.headers["Firmtrail-Log-Size"] == str(len(entries))
        assert answer.body == "".join(f"{entry.text}\n" for entry in wanted).encode(), query
        found += bool(wanted)
    assert found > QUERIES / 4


@pytest.mark.parametrize("filters", ["", "&stream=device/pump-1", "&type=FirmwareInstalled"])
async def test_positions_say_where_a_reader_continues(filled: Site, filters: str) -> None:
    """A reader whose connection breaks keeps the whole lines, and asks for the positions after."""
    whole = (await filled.get(f"{P}/events?positions=true{filters}")).body
    taken, start, size = b"", 0, None
    while True:
        until = "" if size is None else f"&to={size}"
        answer = await filled.get(f"{P}/events?positions=true&from={start}{until}{filters}")
        size = size or answer.headers["Firmtrail-Log-Size"]
        cut = answer.body[: max(1, len(answer.body) // 2 + 7)]
        came = cut[: cut.rfind(b"\n") + 1] or answer.body
        if not came:
            break
        await append_some(filled.services.db, filled.log_id, random.Random(3))
        taken += came
        start = int(came.splitlines()[-1].split(b"\t")[0]) + 1
    assert taken == whole


async def test_entries_sent_as_gzip_are_the_same(filled: Site) -> None:
    plain = await filled.get(f"{P}/events", Accept_Encoding="identity")
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"
    zipped = await filled.get(f"{P}/events", Accept_Encoding="gzip")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.body == plain.body  # the client inflates it


@pytest.mark.one_back_end
@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, br", False),
        ("deflate", False),
        ("*", True),
        ("*;q=0", False),
        ("", False),
    ],
)
def test_gzip_is_sent_only_to_clients_that_accept_it(header: str, takes: bool) -> None:
    request = make_mocked_request("GET", "/", headers={"Accept-Encoding": header})
    assert respond.accepts_gzip(request) is takes


async def test_one_entry_is_sent_as_it_is_stored_and_none_exists_after_the_end(
    filled: Site,
) -> None:
    entries = await stored(filled)
    for entry in (entries[0], entries[-1]):
        answer = await filled.get(f"{P}/events/{entry.position}", caller="auditor")
        assert (answer.status, answer.body) == (200, entry.text.encode())
        assert answer.headers["Content-Type"] == "application/cloudevents+json"
    for position in (len(entries), 2**53 - 1, "01", "-1", "x", "%00"):
        assert_is_problem(await filled.get(f"{P}/events/{position}"), 404)


async def test_an_impossible_filter_is_refused(site: Site) -> None:
    for query in (
        "type=FirmwareInstaled",
        "type=FirmwareInstalled.v9",
        "type=",
        "type=FirmwareInstalled,",
        "stream=",
        "stream=pump",
        "stream=/",
        "actor=",
        "actor=nobody",
        "newest_first=maybe",
        "stream=device/%00",
        "since=yesterday",
        "until=2026-02-30T00:00:00Z",
        "from=-1",
        "limit=0",
        "to=x",
    ):
        assert_is_problem(await site.get(f"{P}/events?{query}"), 422)


async def test_parallel_reads_of_the_log_are_limited(site: Site) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(25):
            stack.enter_context(
                site.services.limits.replays.enter(Caller(kind="user", project="acme"))
            )
        for path in ("/events", "/logs/1/events"):
            answer = await site.get(f"{P}{path}")
            assert_is_problem(answer, 429)
            assert int(answer.headers["Retry-After"]) > 0
        assert (await site.get(f"{P}/events/0")).status == 200
    assert (await site.get(f"{P}/events")).status == 200
    assert not site.services.limits.replays._open_of


async def test_each_old_log_stays_readable_by_its_number(filled: Site) -> None:
    old = await stored(filled)
    db = filled.services.db
    newest = await new_log(db)
    await write(db, "UPDATE log_heads SET closed = 1 WHERE log_id = $1", filled.log_id)
    await write(db, "UPDATE projects SET log_id = $1 WHERE project = 'acme'", newest)
    await append_some(db, newest, random.Random(4))
    new = await stored(filled, newest)
    listed = (await filled.get(f"{P}/logs", caller="auditor")).json["items"]
    assert [(each["number"], each["size"], each["closed"]) for each in listed] == [
        (1, len(old), True),
        (2, len(new), False),
    ]
    for path, entries in (("/logs/1", old), ("/logs/2", new), ("", new)):
        answer = await filled.get(f"{P}{path}/events")
        assert answer.body == "".join(f"{entry.text}\n" for entry in entries).encode()
        assert answer.headers["Firmtrail-Log-Size"] == str(len(entries))
        first = await filled.get(f"{P}{path}/events/0")
        assert first.body == entries[0].text.encode()
    for number in (0, 3, "x", "01", "%00", 2**70):
        assert_is_problem(await filled.get(f"{P}/logs/{number}/events"), 404)
        assert_is_problem(await filled.get(f"{P}/logs/{number}/events/0"), 404)
    page = (await filled.get(f"{P}/logs?limit=1&count=true")).json
    assert (len(page["items"]), page["total"]) == (1, 2)
    rest = (await filled.get(f"{P}/logs?limit=1&count=true&cursor={page['next']}")).json
    assert (rest["items"][0]["number"], rest["next"]) == (2, None)

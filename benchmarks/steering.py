"""Measures orders to a whole fleet, and checks that its idle polls leave no row.

Rollouts start, advance and are rolled back over HTTP, on a database that contains the fleet. Each
order is timed, and the log's size says how many events it appended. Then devices that have called
once continue to call, while nothing changes. Before and after that, without a server on the file,
the rows of every table are counted: no poll may have left one.

The same polls are measured in turns on a copy of the database, where a rollout with a plan of four
phases is under way.
"""

import asyncio
import contextlib
import http.client
import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import batched, cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import aiohttp
import msgspec

from benchmarks import fleet, processes
from benchmarks.fill import fill
from benchmarks.fleet import Fleet, P, Sent
from benchmarks.processes import Tokens
from benchmarks.rounds import Measure
from benchmarks.short import CHECK_IN_TO_BARE
from benchmarks.table import Bound, Row

DEVICES = 1_000_000
ROUNDS = 10
POLLED_DEVICES = 20_000
IDLE_POLLS = 100_000
PARALLEL_CALLS = 100

MODEL = "m1"
FALLBACK = "0.1.0"
"""A release that no device ran."""

PLAN = {
    "phases": [
        {"percent": 1, "after_s": 86_400, "when": {"installed_percent": 95, "min_reports": 1000}},
        {"percent": 10, "after_s": 86_400},
        {"percent": 50, "after_s": 86_400},
        {"percent": 100},
    ]
}
PLANNED_TO_UNPLANNED = Bound(0.85, 0.95)
"""The rate of idle polls with a plan, as a share of those without one."""

ORDER_MS = Bound(50, 50, lower_is_better=True)
NONE = Bound(0, 0, lower_is_better=True)


class SteeredFleet(NamedTuple):
    """Describes a database of devices of one model, which no server has open."""

    path: Path
    fleet: Fleet
    tokens: Tokens
    versions: Sequence[str]
    """The versions that the devices run."""

    @property
    def database(self) -> str:
        return f"sqlite:///{self.path}"


class Operator:
    """Sends orders on one connection; notes how long they take and how many events they append."""

    def __init__(self, port: int, token: str) -> None:
        self._token = token
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        self.took_ms: dict[str, list[float]] = {}
        self.appended: Counter[str] = Counter()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Returns the body of the answer, whose status must be 200 or 201."""
        encoded = None if body is None else msgspec.json.encode(body)
        return self._send(method, path, encoded, "application/json")

    def upload(self, path: str, data: bytes) -> None:
        """Adds an artifact."""
        self._send("PUT", path, data, "application/octet-stream")

    def _send(self, method: str, path: str, body: bytes | None, media: str) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": media}
        self._connection.request(method, f"{P}/{path}", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status in {200, 201}, (path, content)
        return msgspec.json.decode(content)

    def order(self, name: str, path: str, body: object) -> Any:
        """Sends an order, and notes its duration and its events."""
        before = self._log_size()
        began = time.perf_counter()
        answer = self.call("POST", path, body)
        self.took_ms.setdefault(name, []).append((time.perf_counter() - began) * 1000)
        self.appended[name] += self._log_size() - before
        return answer

    def _log_size(self) -> int:
        size: int = self.call("GET", "logs")["items"][-1]["size"]
        return size

    def row(self, name: str, bound: Bound | None = ORDER_MS) -> Row:
        """Returns the longest time of an order of this name."""
        took = self.took_ms[name]
        return Row(name=name, value=max(took), unit="ms", p50_ms=median(took), bound=bound)

    def appended_row(self, name: str, expected: int) -> Row:
        """Returns how many events the orders of this name appended; the bound is `expected`."""
        events = self.appended[name]
        bound = Bound(expected, expected, lower_is_better=events > expected)
        return Row(name=f"{name}, {ROUNDS} times", value=events, unit="events", bound=bound)


def run(devices: int) -> tuple[list[Row], list[str]]:
    """Measures with this number of devices, all of one version; returns the rows and faults."""
    with tempfile.TemporaryDirectory(prefix="firmtrail-bench-") as folder:
        path, filled, version = Path(folder) / "fleet.db", Fleet(devices), fleet.VERSIONS[0]
        tokens = processes.prepare(f"sqlite:///{path}")
        fill(path, filled, filled.all_devices(version), devices)
        return measure(SteeredFleet(path, filled, tokens, [version]))


def measure(steered: SteeredFleet) -> tuple[list[Row], list[str]]:
    """Sends orders, then polls; returns the rows and the faults."""
    with processes.firmtrail(steered.database) as server:
        ordered = _orders(Operator(server.port, steered.tokens.admin), steered.versions)
        known = asyncio.run(_first_calls(server.port, _some(steered.fleet)))
    planned, known_there, orders_of_plans = _with_plan(steered, known)
    paths = (steered.path, planned.path)
    before = sum((rows_of_tables(path) for path in paths), Counter[str]())
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(processes.firmtrail(steered.database))
        other = stack.enter_context(processes.firmtrail(planned.database))
        bare = stack.enter_context(processes.bare())
        polled = _polls(bare, (server.port, known), (other.port, known_there))
    grown = sum((rows_of_tables(path) for path in paths), Counter[str]()) - before
    planned.path.unlink()
    left = Row(
        name=f"rows left by {IDLE_POLLS:,} idle polls", value=grown.total(), unit="rows", bound=NONE
    )
    faults = [f"idle polls left {rows} rows in {table}" for table, rows in grown.items()]
    return [*ordered, *orders_of_plans, *polled, left], faults


def _with_plan(
    steered: SteeredFleet, numbers: Iterable[int]
) -> tuple[SteeredFleet, dict[int, str], list[Row]]:
    """Returns a copy of the database in which rollouts with plans are under way, the ETags of these
    devices there, and the rows of the orders."""
    path = steered.path.with_name("planned.db")
    shutil.copyfile(steered.path, path)
    planned = steered._replace(path=path)
    with processes.firmtrail(planned.database) as server:
        operator = Operator(server.port, steered.tokens.admin)
        for n in range(ROUNDS):
            release = {"model": MODEL, "version": f"3.{n}.0"}
            operator.call("POST", "releases", release)
            body = {**release, "plan": PLAN}
            started = operator.order("rollout with a plan started", "rollouts", body)
            operator.order("next phase of a plan", f"rollouts/{started['id']}/advance", {})
        known = asyncio.run(_first_calls(server.port, numbers))
    names = ("rollout with a plan started", "next phase of a plan")
    rows = [operator.row(name) for name in names]
    return planned, known, rows + [operator.appended_row(name, ROUNDS) for name in names]


def rows_of_tables(path: Path) -> Counter[str]:
    """Returns how many rows each table has; the difference of two counts the added rows."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return Counter({name: _count(db, name) for (name,) in tables})


def _count(db: sqlite3.Connection, table: str) -> int:
    [[rows]] = db.execute(f'SELECT count(*) FROM "{table}"')
    return int(rows)


def _orders(operator: Operator, versions: Sequence[str]) -> list[Row]:
    for version in {FALLBACK, *versions}:
        operator.call("POST", "releases", {"model": MODEL, "version": version})
    bad_versions = list(islice(cycle(versions), ROUNDS))
    for n, bad in enumerate(bad_versions):
        _roll_out(operator, f"2.{n}.0")
        _roll_back(operator, bad)
    withdrawn = len(set(bad_versions))
    return [
        operator.row("rollout started"),
        operator.row("rollout advanced"),
        operator.row("rolled back"),
        operator.row("rollback, dry run", None),
        operator.appended_row("rollout started", ROUNDS),
        operator.appended_row("rollout advanced", ROUNDS),
        operator.appended_row("rolled back", ROUNDS + withdrawn),
        operator.appended_row("rollback, dry run", 0),
    ]


def _roll_out(operator: Operator, version: str) -> None:
    release = {"model": MODEL, "version": version}
    operator.call("POST", "releases", release)
    started = operator.order("rollout started", "rollouts", {**release, "percent": 10})
    path = f"rollouts/{started['id']}/advance"
    operator.order("rollout advanced", path, {"percent": 100})


def _roll_back(operator: Operator, bad: str) -> None:
    rollback = {"model": MODEL, "bad_version": bad, "fallback": FALLBACK, "reason": "It sticks."}
    operator.order("rollback, dry run", "rollbacks", {**rollback, "dry_run": True})
    operator.order("rolled back", "rollbacks", rollback)


def _some(devices: Fleet) -> Iterable[int]:
    return random.sample(range(devices.devices), min(devices.devices, POLLED_DEVICES))


async def _first_calls(port: int, numbers: Iterable[int]) -> dict[int, str]:
    """Lets each device call once and get its offer; returns the ETags of the answers."""

    async def call(session: aiohttp.ClientSession, number: int) -> str:
        headers = {"Authorization": f"Bearer {fleet.secret(number)}"}
        path = f"{P}/devices/{fleet.name(number)}/update"
        async with session.get(path, headers=headers, raise_for_status=True) as answer:
            return answer.headers["ETag"]

    known: dict[int, str] = {}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for some in batched(numbers, PARALLEL_CALLS):
            etags = await asyncio.gather(*(call(session, number) for number in some))
            known.update(zip(some, etags, strict=True))
    return known


type Polled = tuple[int, dict[int, str]]
"""The port of a server, and devices with the ETags of its answers to them."""


def _polls(bare_port: int, without: Polled, planned: Polled) -> list[Row]:
    """Measures polls with the ETag of the last answer and without, on the server without a plan and
    on the one with plans, in turns, until there are enough."""
    devices = Fleet(max(without[1]) + 1)
    bare = Measure("bare aiohttp, GET", bare_port, devices.reads("-"))
    bare_new = _on_new_connections("bare aiohttp, GET", bare_port, devices.reads("-"))
    idle = fleet.polls(dict.fromkeys(without[1], ""))
    poll_new = _on_new_connections("idle poll", without[0], idle)
    polls, with_plan = _measures(without, ""), _measures(planned, ", with plans")
    while sum(each.answers for each in polls) < IDLE_POLLS:
        for each in (bare, *polls, *with_plan, bare_new, poll_new):
            each.round()
    return [
        bare.row(),
        *(each.row(bare, CHECK_IN_TO_BARE) for each in polls),
        *(each.row(of, PLANNED_TO_UNPLANNED) for each, of in zip(with_plan, polls, strict=True)),
        bare_new.row(),
        poll_new.row(bare_new, CHECK_IN_TO_BARE),
    ]


def _on_new_connections(name: str, port: int, requests: Iterator[Sent]) -> Measure:
    """Measures requests of which each opens a connection of its own."""
    name = f"{name}, each on a new connection"
    return Measure(name, port, requests, expected_per_s=4_000, reconnects=True)


def _measures(polled: Polled, suffix: str) -> tuple[Measure, Measure]:
    port, known = polled
    return (
        Measure(f"idle poll with its ETag{suffix}", port, fleet.polls(known), good="304"),
        Measure(f"idle poll{suffix}", port, fleet.polls(dict.fromkeys(known, ""))),
    )

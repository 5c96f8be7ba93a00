"""Measures at scale: a million devices and ten million events, compared with ten thousand events.

It writes its figures into docs/performance.md.
"""

import asyncio
import contextlib
import http.client
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from msgspec.structs import replace

from benchmarks import (
    console_pages,
    fleet,
    instructions,
    postgres_fill,
    processes,
    short,
    steering,
    table,
)
from benchmarks.fill import fill
from benchmarks.fleet import ARRAY_REPORTS, VERSIONS, Fleet, P
from benchmarks.processes import Firmtrail, Tokens
from benchmarks.rounds import Measure, take_turns
from benchmarks.short import Service
from benchmarks.steering import SteeredFleet
from benchmarks.table import Bound, Row
from benchmarks.verify import Ledger
from firmtrail.cli import python_build
from tests import postgres_server
from tests.postgres_server import PostgresServer

DEVICES, REPORTS = 1_000_000, 9_000_000
FEW_DEVICES, FEW_REPORTS = 1_000, 9_000

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

LATENCY_RATIO = Bound(1.5, 1.2, lower_is_better=True)
MEMORY_MIB = Bound(300, 200, lower_is_better=True)
START_S = Bound(2, 1, lower_is_better=True)
EVENT_BYTES = Bound(800, 550, lower_is_better=True)

READ_THROUGH_BYTES = 16 * 1024 * 1024

PAST_READS_MAX = 50
PAST_READ_S = 3.0


class Filled(NamedTuple):
    """Describes a database that contains a fleet."""

    path: Path
    fleet: Fleet
    tokens: Tokens
    bytes_an_event: float
    filled_from: datetime
    filled_to: datetime

    @property
    def database(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def when(self) -> str:
        """Returns a time at which about half of the events were recorded."""
        return (self.filled_from + (self.filled_to - self.filled_from) / 2).strftime(
            "%Y-%m-%dT%H:%M:%S.000Z"
        )


def run(reports: int) -> tuple[list[Row], list[str]]:
    """Measures with this number of reports, and writes the page; returns the rows and faults."""
    with tempfile.TemporaryDirectory(prefix="firmtrail-bench-") as folder:
        few = _filled(Path(folder) / "few.db", FEW_DEVICES, FEW_REPORTS)
        new = _filled(Path(folder) / "new.db", DEVICES, ARRAY_REPORTS)
        many = _filled(Path(folder) / "many.db", DEVICES, reports)
        rows, faults = _served(few, new, many, (DEVICES + reports) // 2)
        more_rows, more_faults = _served_otherwise(new)
        steered = steering.measure(SteeredFleet(many.path, many.fleet, many.tokens, VERSIONS))
    rows += [*steered[0], *more_rows, *instructions.rows()]
    _write_page(rows, DEVICES + reports)
    return rows, faults + steered[1] + more_faults


def _served(few: Filled, new: Filled, many: Filled, size: int) -> tuple[list[Row], list[str]]:
    """Measures three servers that run in parallel; `size` is a past size of the large log."""
    with contextlib.ExitStack() as stack:
        small = stack.enter_context(processes.firmtrail(few.database))
        fresh = stack.enter_context(processes.firmtrail(new.database))
        large = stack.enter_context(processes.firmtrail(many.database))
        _read_through(few.path, new.path, many.path)
        latencies = [*_latencies(small, few, large, many)]
        past = [*past_reads(large, many.fleet, (many.tokens.admin, many.when), size)]
        pages = [*console_pages.measure(large.port, many.fleet.devices, size)]
        pages += console_pages.viewed(large.port, many.fleet)
        _read_through(new.path, many.path)
        services = _service("SQLite", large, many), _service("SQLite, new log", fresh, new)
        rows = [
            *_against_simpler_services(stack, *services, many.fleet),
            *latencies,
            *past,
            *pages,
            *_sizes(large, many),
        ]
    return rows, [fault for service in services for fault in service.ledger.faults]


def _served_otherwise(new: Filled) -> tuple[list[Row], list[str]]:
    """Measures two workers on the new log, and PostgreSQL with as many devices, which all reported
    once."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(
            PostgresServer(durable=True, settings=postgres_fill.SETTINGS)
        )
        dsn = postgres.create_database("fleet")
        tokens = processes.prepare(dsn)
        asyncio.run(postgres_fill.Filling(dsn, DEVICES).add(DEVICES))
        bare = stack.enter_context(processes.bare())
        post = Measure("bare aiohttp, POST", bare, new.fleet.singles())
        get = Measure("bare aiohttp, GET", bare, new.fleet.reads("-"))
        clustered = stack.enter_context(processes.firmtrail(dsn))
        by_two = stack.enter_context(processes.firmtrail(new.database, workers=2))
        services = [
            _service("SQLite, new log, 2 workers", by_two, new),
            short.service_measures(
                "Postgres", clustered.port, Fleet(DEVICES), tokens=tokens, ledger=Ledger()
            ),
        ]
        take_turns([post, get, *(each for one in services for each in one.measures)])
        for service in services:
            service.ledger.check(service.port, service.tokens.admin)
        rows = [row for service in services for row in _compared(service, post, get)]
    return [post.row(), get.row(), *rows], [
        fault for service in services for fault in service.ledger.faults
    ]


def _compared(service: Service, post: Measure, get: Measure) -> Iterator[Row]:
    """Yields the rows of a service that has no bound."""
    yield service.single.row(post)
    yield from (measure.row() for measure in service.arrays)
    yield from (measure.row(get) for measure in (*service.reads, *service.check_ins))


def _filled(path: Path, devices: int, reports: int) -> Filled:
    tokens, few = processes.prepare(f"sqlite:///{path}"), Fleet(devices)
    began = datetime.now(UTC)
    arrays = islice(few.gathered(), reports // ARRAY_REPORTS)
    bytes_an_event = fill(path, few, arrays, reports)
    return Filled(path, few, tokens, bytes_an_event, began, datetime.now(UTC))


def _read_through(*paths: Path) -> None:
    """Reads the files into the page cache, where filling left them: some virtual machines return
    memory that is not used for a while to their host.
    """
    for path in paths:
        with path.open("rb") as file:
            while file.read(READ_THROUGH_BYTES):
                pass


def _service(name: str, server: Firmtrail, filled: Filled) -> Service:
    ledger = Ledger()
    return short.service_measures(
        name, server.port, filled.fleet, tokens=filled.tokens, ledger=ledger
    )


def _against_simpler_services(
    stack: contextlib.ExitStack, service: Service, new: Service, devices: Fleet
) -> list[Row]:
    """Measures the service and the references; of the service with a new log only the writes."""
    postgres = stack.enter_context(PostgresServer(durable=True))
    seed = processes.seed_shape(postgres.create_database("seed"), devices.devices)
    references = short.reference_measures(
        stack.enter_context(processes.bare()), stack.enter_context(seed), devices
    )
    take_turns([*references, *service.measures, new.single, *new.arrays])
    for each in (service, new):
        each.ledger.check(each.port, each.tokens.admin)
    return [
        *(reference.row() for reference in references),
        *short.bounded_writes(new, references),
        *short.bounded_rows(service, references),
        short.replay(service),
    ]


def _latencies(small: Firmtrail, few: Filled, large: Firmtrail, many: Filled) -> Iterator[Row]:
    """Measures one client at a time, so that a latency contains no time in a queue."""
    pairs = list(zip(_alone(small, few), _alone(large, many), strict=True))
    take_turns([measure for pair in pairs for measure in pair])
    for at_few, at_many in pairs:
        row = at_many.row()
        ratio = at_many.p50_ms / at_few.p50_ms
        yield replace(row, ratio=ratio, compared_with="10 thousand events", bound=LATENCY_RATIO)


def _alone(server: Firmtrail, filled: Filled) -> list[Measure]:
    devices, admin = filled.fleet, filled.tokens.admin
    requests = {
        "report": devices.singles(),
        "device": devices.reads(admin),
        "history": devices.reads(admin, "/history"),
    }
    return [
        Measure(f"one client: {what}", server.port, each, connections=1, expected_per_s=2_000)
        for what, each in requests.items()
    ]


def past_reads(
    server: Firmtrail, devices: Fleet, admin_and_when: tuple[str, str], size: int
) -> Iterator[Row]:
    """Measures reads of the past and of the whole fleet, one after another: with this token, as of
    this time, and as of this size of the log."""
    admin, when = admin_and_when
    device = f"/devices/{fleet.name(random.randrange(devices.devices))}"
    position = f"@{size}"
    for name, path in (
        ("device as of an event", f"{device}?as_of={position}"),
        ("device at a time", f"{device}?at={when}"),
        ("history as of an event", f"{device}/history?as_of={position}"),
        ("versions", "/versions"),
        ("versions as of an event", f"/versions?as_of={position}"),
        ("versions as of a time", f"/versions?as_of={when}"),
        ("devices, a page", "/devices"),
        ("devices of a version", f"/devices?version={VERSIONS[0]}"),
        ("devices as of an event", f"/devices?as_of={position}"),
        ("devices of a version at a time", f"/devices?version={VERSIONS[0]}&at={when}"),
    ):
        took = _durations_ms(server.port, f"{P}{path}", admin)
        yield Row(name=f"one client: {name}", value=median(took), unit="ms", p99_ms=max(took))


def _durations_ms(port: int, path: str, token: str) -> list[float]:
    took: list[float] = []
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=processes.CALL_S_MAX)
    while len(took) < PAST_READS_MAX and time.perf_counter() < began + PAST_READ_S:
        sent_at = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - sent_at) * 1000)
        assert answer.status == 200, (path, body)
    connection.close()
    return took


def _sizes(server: Firmtrail, filled: Filled) -> list[Row]:
    resident, proportional = processes.memory_mib(server.pid)
    return [
        Row(name="memory, resident", value=resident, unit="MiB", bound=MEMORY_MIB),
        Row(name="memory, proportional", value=proportional, unit="MiB"),
        Row(name="start until it serves", value=server.started_in_s, unit="s", bound=START_S),
        Row(name="disk an event", value=filled.bytes_an_event, unit="bytes", bound=EVENT_BYTES),
    ]


def _write_page(rows: list[Row], events: int) -> None:
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    figures = f"{DEVICES:,} devices, {events:,} events. {_machine()}\n\n{table.markdown(rows)}"
    PAGE.write_text(f"{before}{BEGIN}\n\n{figures}\n{END}{after}")


def _machine() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB of memory; "
        f"Python {python_build.check().found}; SQLite {sqlite3.sqlite_version}, "
        f"{postgres_server.version()}."
    )

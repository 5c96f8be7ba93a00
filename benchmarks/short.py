"""Measures every kind of request with thirty thousand devices, on SQLite and Postgres."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import library, processes, rebuild, verify
from benchmarks.fleet import ARRAY_REPORTS, Fleet, Sent, audits, gateway_arrays
from benchmarks.processes import Tokens
from benchmarks.rounds import ROUNDS, Measure, take_turns
from benchmarks.table import Bound, Row
from benchmarks.verify import Ledger
from tests.postgres_server import PostgresServer

DEVICES = 30_000
REPLAYED = 100_000

SINGLE_TO_BARE = Bound(0.20, 0.33)
SINGLE_TO_SEED = Bound(6, 10)
ARRAYS_PER_S = Bound(25_000, 50_000)
READ_TO_BARE = Bound(0.2, 0.4)
CHECK_IN_TO_BARE = Bound(0.30, 0.45)
REPLAY_PER_S = Bound(100_000, 250_000)


class References(NamedTuple):
    """Holds the measures that the service is compared with."""

    post: Measure
    get: Measure
    seed: Measure


class Service(NamedTuple):
    """Holds a Firmtrail server and its measures."""

    port: int
    tokens: Tokens
    ledger: Ledger
    single: Measure
    arrays: list[Measure]
    reads: list[Measure]
    audits: list[Measure]
    check_ins: list[Measure]

    @property
    def measures(self) -> list[Measure]:
        """Returns the measures that run in every round."""
        return [self.single, *self.arrays, *self.reads, *self.check_ins]


def run() -> tuple[list[Row], list[str]]:
    """Measures; returns the rows and the faults."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firmtrail-bench-")))
        postgres = stack.enter_context(PostgresServer(durable=True))
        fleet = Fleet(DEVICES)
        seed_port = stack.enter_context(
            processes.seed_shape(postgres.create_database("seed"), DEVICES)
        )
        references = reference_measures(stack.enter_context(processes.bare()), seed_port, fleet)
        embedded = _start(stack, f"sqlite:///{folder / 'bench.db'}", fleet)
        clustered = _start_clustered(stack, postgres.create_database("bench"), fleet)
        services = [embedded, *clustered]
        take_turns([*references, *(each for one in services for each in one.measures)])
        for service in (embedded, clustered[0]):  # two servers, one log
            service.ledger.check(service.port, service.tokens.admin)
        rows = [
            *(reference.row() for reference in references),
            *bounded_rows(embedded, references),
            replay(embedded),
            *rebuild.rows(
                f"sqlite:///{folder / 'bench.db'}", embedded.port, embedded.ledger, fleet
            ),
            *(row for service in clustered for row in unbounded_rows(service, references)),
            *library.rows(
                folder, postgres.create_database("other"), postgres.create_database("own")
            ),
        ]
        return rows, embedded.ledger.faults + clustered[0].ledger.faults


def reference_measures(bare_port: int, seed_port: int, fleet: Fleet) -> References:
    """Returns the measures of the simpler services."""
    return References(
        Measure("bare aiohttp, POST", bare_port, fleet.singles()),
        Measure("bare aiohttp, GET", bare_port, fleet.reads("-")),
        Measure("seed's shape, POST", seed_port, fleet.seed_singles(), expected_per_s=3_000),
    )


def service_measures(
    name: str, port: int, fleet: Fleet, *, tokens: Tokens, ledger: Ledger
) -> Service:
    """Returns the measures of a Firmtrail server."""

    def arrays_of(what: str, requests: Iterator[Sent]) -> Measure:
        return Measure(
            f"{name}: arrays of 500, {what}",
            port,
            requests,
            ledger,
            unit="reports/s",
            units_a_request=ARRAY_REPORTS,
            connections=4,
            expected_per_s=80,
        )

    return Service(
        port,
        tokens,
        ledger,
        Measure(f"{name}: single reports", port, fleet.singles(), ledger, unit="reports/s"),
        [
            arrays_of("one device", fleet.device_arrays()),
            arrays_of("a gateway", gateway_arrays(fleet.gathered(), tokens.gateway)),
            arrays_of("the whole fleet", gateway_arrays(fleet.scattered(), tokens.gateway)),
        ],
        [
            Measure(f"{name}: device", port, fleet.reads(tokens.admin)),
            Measure(f"{name}: history", port, fleet.reads(tokens.admin, "/history")),
        ],
        [
            Measure(f"{name}: {what}", port, requests)
            for what, requests in audits(fleet.devices, tokens.admin).items()
        ],
        [Measure(f"{name}: check-in, nothing new", port, fleet.check_ins())],
    )


def bounded_writes(service: Service, references: References) -> list[Row]:
    """Returns the rows of requests that write."""
    return [
        service.single.row(references.post, SINGLE_TO_BARE),
        service.single.row(references.seed, SINGLE_TO_SEED),
        *(measure.row(bound=ARRAYS_PER_S) for measure in service.arrays),
    ]


def bounded_rows(service: Service, references: References) -> list[Row]:
    """Returns the rows for which the design names a bound, and those of auditors."""
    return [
        *bounded_writes(service, references),
        *(measure.row(references.get, READ_TO_BARE) for measure in service.reads),
        *(each.row(references.get, CHECK_IN_TO_BARE) for each in service.check_ins),
        *audited(service, references),
    ]


def audited(service: Service, references: References) -> list[Row]:
    """Measures the requests of auditors once: the design names no bound for them."""
    for measure in service.audits:
        measure.round()
    return [measure.row(references.get) for measure in service.audits]


def unbounded_rows(service: Service, references: References) -> list[Row]:
    """Returns the rows that are shown only for comparison."""
    return [
        service.single.row(references.seed),
        *(measure.row() for measure in service.arrays),
        *(measure.row(references.get) for measure in service.reads),
    ]


def replay(service: Service) -> Row:
    """Measures how fast one reader gets the log."""
    port, token = service.port, service.tokens.admin
    per_s = median(verify.replayed_per_s(port, token, REPLAYED) for _ in range(ROUNDS))
    return Row(name="SQLite: replay", value=per_s, unit="events/s", bound=REPLAY_PER_S)


def _start(stack: contextlib.ExitStack, database: str, fleet: Fleet) -> Service:
    tokens = processes.prepare(database)
    server = stack.enter_context(processes.firmtrail(database))
    processes.register(server.port, tokens.admin, fleet.devices)
    return service_measures("SQLite", server.port, fleet, tokens=tokens, ledger=Ledger())


def _start_clustered(stack: contextlib.ExitStack, database: str, fleet: Fleet) -> Sequence[Service]:
    """Starts a server of one process and one of two, which share a database and so a log."""
    tokens, ledger = processes.prepare(database), Ledger()
    services = []
    for workers in (1, 2):
        server = stack.enter_context(processes.firmtrail(database, workers=workers))
        name = f"Postgres, {workers} worker{'s' if workers > 1 else ''}"
        service = service_measures(name, server.port, fleet, tokens=tokens, ledger=ledger)
        services.append(service._replace(arrays=service.arrays[1:2], audits=[], check_ins=[]))
    processes.register(services[0].port, tokens.admin, fleet.devices)
    return services

"""Measures a PostgreSQL with a large log, and next to it a copy from when it had half the reports.

It is filled by COPY (`benchmarks/postgres_fill.py`). Reports go to both in turns, so a machine that
gets slower does so for both.
"""

import asyncio
import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from benchmarks import (
    fleet,
    postgres_archive,
    postgres_fill,
    processes,
    rebuild,
    scale,
    short,
    table,
)
from benchmarks.fleet import Fleet
from benchmarks.processes import Tokens
from benchmarks.rounds import take_turns
from benchmarks.short import Service
from benchmarks.table import Bound, Row
from benchmarks.verify import Ledger
from firmtrail.database import postgres
from tests.postgres_server import PostgresServer

PARTITIONS = 8
"""About how many the large log is in."""

TO_FEWER = Bound(1 / 1.2, 1)
"""Reports to the large log are no slower than those to the small one by more than a fifth."""

_SIZES = """\
SELECT coalesce(whole.relname, part.relname), sum(pg_total_relation_size(part.oid))
FROM pg_class AS part
LEFT JOIN pg_inherits ON inhrelid = part.oid
LEFT JOIN pg_class AS whole ON whole.oid = inhparent
WHERE part.relnamespace = 'public'::regnamespace AND part.relkind = 'r'
GROUP BY 1
ORDER BY 2 DESC
LIMIT 6"""

_FULL = "SELECT name FROM event_partitions WHERE start IS NOT NULL AND stop IS NOT NULL LIMIT 1"


class Filled(NamedTuple):
    """Describes a database that contains a fleet."""

    dsn: str
    events: int
    tokens: Tokens
    took: postgres_fill.Filled
    when: str
    """A time at which about half of the events were recorded."""


def run(devices: int, reports: int) -> tuple[list[Row], list[str]]:
    """Measures with these numbers; returns the rows and the faults."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(PostgresServer(durable=True, settings=postgres_fill.SETTINGS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firmtrail-bench-")))
        few, many = _filled(server, devices, reports)
        rows = _said(_fill_rows(few, many))
        rows += _said(_dumped(server, many))
        rows += _said(postgres_archive.rows(many.dsn, folder, many.events))
        faults = _served(few, many, Fleet(devices), rows)
    return rows, faults


def _filled(server: PostgresServer, devices: int, reports: int) -> tuple[Filled, Filled]:
    """Fills a new database with this many devices and reports; returns a copy from halfway, too."""
    dsn, began, half = server.create_database("many"), datetime.now(UTC), reports // 2
    positions = (devices + reports) // PARTITIONS
    tokens = processes.prepare(dsn, f"--positions={positions}")
    filling = postgres_fill.Filling(dsn, devices, positions)
    took = asyncio.run(filling.add(half))
    when = f"{began + (datetime.now(UTC) - began) / 2:%Y-%m-%dT%H:%M:%S}.000Z"
    copy = server.create_database("few", "many")
    few = Filled(copy, devices + half, tokens, took, when)
    when = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z"
    took = asyncio.run(filling.add(reports - half))
    return few, Filled(dsn, devices + reports, tokens, took, when)


def _served(few: Filled, many: Filled, devices: Fleet, rows: list[Row]) -> list[str]:
    """Measures a server of each log, and adds to the rows; returns the faults."""
    with contextlib.ExitStack() as stack:
        small = stack.enter_context(processes.firmtrail(few.dsn))
        large = stack.enter_context(processes.firmtrail(many.dsn))
        services = _service(few, small.port, devices), _service(many, large.port, devices)
        take_turns([each for service in services for each in service.measures])
        rows += _said(_compared(*services))
        past = (many.tokens.admin, many.when)
        rows += _said(scale.past_reads(large, devices, past, many.events // 2))
        rows += _said(_sizes(many))
        rows += _said(rebuild.rows(many.dsn, large.port, services[1].ledger, devices))
        project = f"--project={fleet.PROJECT}"
        rows += _said(processes.audited("audit verify", many.events, many.dsn, project))
        for service in services:
            service.ledger.check(service.port, service.tokens.admin)
    return [fault for service in services for fault in service.ledger.faults]


def _said(rows: Iterable[Row]) -> list[Row]:
    """Prints the rows, as a run takes hours; returns them."""
    found = list(rows)
    for row in found:
        print(*(cell for cell in table.cells(row) if cell), sep=", ", flush=True)
    return found


def _service(filled: Filled, port: int, devices: Fleet) -> Service:
    name, tokens = f"{filled.events:,} events", filled.tokens
    return short.service_measures(name, port, devices, tokens=tokens, ledger=Ledger())


def _compared(few: Service, many: Service) -> Iterator[Row]:
    """Yields the rows of both logs; those of the large one with their ratio to the small one."""
    yield from (measure.row() for measure in few.measures)
    for at_few, at_many in zip(few.measures, many.measures, strict=True):
        writes = at_many is many.single or at_many in many.arrays
        yield at_many.row(at_few, TO_FEWER if writes else None)


def _fill_rows(few: Filled, many: Filled) -> list[Row]:
    added, took = many.events - few.events, many.took
    return [
        Row(name="fill: COPY without keys", value=added / took.copied_s, unit="events/s"),
        Row(name="fill: keys of the tables", value=took.keyed_s, unit="s"),
        Row(name="fill: VACUUM (FREEZE, ANALYZE)", value=took.vacuumed_s, unit="s"),
    ]


def _dumped(server: PostgresServer, filled: Filled) -> list[Row]:
    """Dumps and vacuums one partition that is full; returns the seconds."""
    name = asyncio.run(_full_partition(filled.dsn))
    options = ("--format=custom", "--compress=lz4", "--data-only", f"--table={name}")
    dump: list[str | Path] = [
        server.programs / "pg_dump",
        *options,
        f"--dbname={filled.dsn}",
    ]
    vacuum: list[str | Path] = [
        server.programs / "psql",
        filled.dsn,
        f"--command=VACUUM (FREEZE) {name}",
    ]
    return [
        Row(name=f"{what} of one partition", value=_took_s(command), unit="s")
        for what, command in (("dump", dump), ("VACUUM (FREEZE)", vacuum))
    ]


def _took_s(command: Sequence[str | Path]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _full_partition(dsn: str) -> str:
    connection = await postgres.connect(dsn)
    name = await connection.fetchval(_FULL)
    await connection.close()
    return str(name)


def _sizes(filled: Filled) -> list[Row]:
    sizes = asyncio.run(_read_sizes(filled.dsn))
    return [
        Row(name=f"disk an event: {table}", value=size / filled.events, unit="bytes")
        for table, size in sizes
    ]


async def _read_sizes(dsn: str) -> list[tuple[str, int]]:
    """Returns the size of each large table with its indexes, in bytes, and of the database."""
    connection = await postgres.connect(dsn)
    sizes = [(str(name), int(size)) for name, size in await connection.fetch(_SIZES)]
    whole = await connection.fetchval("SELECT pg_database_size(current_database())")
    await connection.close()
    return [*sizes, ("everything", int(whole))]

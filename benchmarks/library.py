"""Measures appends without HTTP: by the recorder, and by the library `eventsourcing`.

Both append reports of the same content, each in its durable default, to SQLite and to Postgres. The
recorder writes its views and its tree in the same transaction; the library writes only events.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import uvloop
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from benchmarks import fleet
from benchmarks.fill import to_report
from benchmarks.table import Row
from firmtrail.database import postgres, sqlite
from firmtrail.database.database import Database
from firmtrail.database.postgres import Postgres
from firmtrail.database.sqlite import SQLite
from firmtrail.events.fleet import DeviceRegistered
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder, start_log
from firmtrail.schema.migrate import migrate

MEASURED_S = 0.7
DEVICES = 200
CALLERS = 64


class Device(Aggregate):
    """Models a device as an aggregate of the library."""

    @event("Reported")
    def report(self, version: str, status: str, report_id: str, occurred_at: str) -> None:
        """Appends a report."""


def rows(folder: Path, dsn: str, own_dsn: str) -> Iterator[Row]:
    """Measures the library and the recorder on both databases."""
    yield from _other(
        "SQLite",
        {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(folder / "other.db")},
    )
    yield from uvloop.run(_own_sqlite(folder / "own.db"))
    yield from _other("Postgres", _settings(dsn))
    yield from uvloop.run(_own_postgres(own_dsn))


def _settings(dsn: str) -> dict[str, str]:
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.removeprefix("/"),
        "POSTGRES_HOST": query["host"][0],
        "POSTGRES_PORT": query["port"][0],
        "POSTGRES_USER": str(parts.username),
        "POSTGRES_PASSWORD": "",
    }


def _other(database: str, settings: dict[str, str]) -> Iterator[Row]:
    app: Application[UUID] = Application(settings)
    devices = [Device() for _ in range(DEVICES)]
    app.save(*devices)
    serials = itertools.count()

    def save(reports: int) -> None:
        device = random.choice(devices)
        for _ in range(reports):
            device.report(**fleet.report(next(serials)))
        app.save(device)

    for name, reports in (("one a save", 1), ("500 a save", 500)):
        per_s = _rate(save, reports)
        yield Row(name=f"eventsourcing, {database}, {name}", value=per_s, unit="events/s")
    app.close()


def _rate(save: Callable[[int], None], reports: int) -> float:
    began, appended = time.perf_counter(), 0
    while time.perf_counter() < began + MEASURED_S:
        save(reports)
        appended += reports
    return appended / (time.perf_counter() - began)


async def _own_sqlite(path: Path) -> list[Row]:
    await migrate(sqlite.migrating(path), "bench")
    return await _own("SQLite", await SQLite.open(path))


async def _own_postgres(dsn: str) -> list[Row]:
    await migrate(postgres.migrating(dsn), "bench")
    return await _own("Postgres", await Postgres.open(dsn))


async def _own(database: str, db: Database) -> list[Row]:
    async with db.transaction() as tx:
        log_id = await start_log(tx, fleet.PROJECT)
    recorder = Recorder(db)
    await recorder.act(log_id, _register)
    serials = itertools.count()

    async def record(reports: int) -> None:
        device = fleet.name(random.randrange(DEVICES))
        await recorder.report(
            log_id,
            [to_report(fleet.report(next(serials)) | {"device": device}) for _ in range(reports)],
        )

    found = []
    for name, reports, callers in (
        ("one at a time", 1, 1),
        (f"one each of {CALLERS}", 1, CALLERS),
        ("arrays of 500", 500, 2),
    ):
        per_s = await _parallel_rate(record, reports, callers)
        found.append(Row(name=f"recorder, {database}, {name}", value=per_s, unit="events/s"))
    await recorder.close()
    await db.close()
    return found


async def _register(commit: Commit) -> None:
    names = [fleet.name(number) for number in range(DEVICES)]
    await commit.devices(names)
    for name in names:
        commit.draft.record(f"device/{name}", DeviceRegistered(model="m1"), actor="system")


async def _parallel_rate(
    record: Callable[[int], Awaitable[None]], reports: int, callers: int
) -> float:
    began, recorded = time.perf_counter(), 0

    async def one() -> None:
        nonlocal recorded
        while time.perf_counter() < began + MEASURED_S:
            await record(reports)
            recorded += reports

    await asyncio.gather(*(one() for _ in range(callers)))
    return recorded / (time.perf_counter() - began)

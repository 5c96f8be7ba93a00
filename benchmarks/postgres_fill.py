"""Fills a PostgreSQL with a large log and its views by COPY, without the service.

The keys of the tables are dropped before and made after, and the guards of the log are off
meanwhile: so it is for new databases that nobody else uses.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import asyncpg
from rich.progress import Progress

from benchmarks.fleet import PROJECT
from benchmarks.synthetic import COLUMNS, End, Rows, SyntheticLog
from firmtrail.database import postgres
from firmtrail.eventstore import merkle
from firmtrail.schema import dividing
from firmtrail.schema.migrate import migrate

INSTANCE = "firmtrail"

SETTINGS = ("shared_buffers=2GB", "max_wal_size=8GB", "maintenance_work_mem=1GB")
"""Suit a large database: PostgreSQL's own settings are for a small one."""

KEYED = (
    "events",
    "identities",
    "device_history",
    "fleet_moves",
    "device_current",
    "device_attributes",
)

_KEYS = """\
SELECT conname, conrelid::regclass::text, pg_get_constraintdef(oid)
FROM pg_constraint
WHERE conrelid = ANY($1::text[]::regclass[]) AND contype IN ('p', 'u')
ORDER BY conrelid::regclass::text, conname"""

GUARDED = ("events", "identities")

_TRIGGERS = """\
SELECT tgrelid::regclass::text, tgname
FROM pg_trigger
WHERE tgrelid = ANY($1::text[]::regclass[]) AND NOT tgisinternal
ORDER BY tgname"""

_IDENTIFY = """\
INSERT INTO identities (log_id, stream, event_id, position)
SELECT log_id, stream, event_id, position
FROM events
WHERE log_id = $1 AND position >= $2"""

_LEFT = "SELECT start - $1::bigint FROM event_partitions WHERE stop IS NULL"

_HEAD = "SELECT log_id, size, frontier, recorded_at_ms FROM log_heads WHERE project = $1"

_MOVE_HEAD = """\
UPDATE log_heads
SET size = $2, frontier = $3, recorded_at_ms = $4
WHERE log_id = $1"""


type _Connection = asyncpg.Connection[asyncpg.Record]


class Filled(NamedTuple):
    """Says how long the parts of filling took, in seconds."""

    copied_s: float
    keyed_s: float
    vacuumed_s: float


class Target(NamedTuple):
    """Describes the database that is filled."""

    dsn: str
    connection: _Connection
    positions: int
    """How many positions a partition of `events` holds."""
    made: SyntheticLog


class Filling:
    """Fills the only log of a new database, which was migrated with as many positions for each
    partition: first with the registrations of a fleet, then with reports, in any number of parts.
    After each part, the database is complete."""

    def __init__(self, dsn: str, devices: int, positions: int = dividing.RANGE_POSITIONS) -> None:
        self._dsn = dsn
        self._devices = devices
        self._positions = positions
        self._made: SyntheticLog | None = None

    async def add(self, reports: int) -> Filled:
        """Appends reports, after the registrations if this is the first part."""
        connection = await postgres.connect(self._dsn)
        began = time.monotonic()
        keys = await _without_keys(connection)
        is_first = self._made is None
        made = self._made = self._made or await self._empty(connection)
        target = Target(self._dsn, connection, self._positions, made)
        await _copied(target, self._devices if is_first else 0, reports)
        copied = time.monotonic()
        await _with_keys(connection, keys)
        keyed = time.monotonic()
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        await connection.execute("CHECKPOINT")
        await connection.close()
        return Filled(copied - began, keyed - copied, time.monotonic() - keyed)

    async def _empty(self, connection: _Connection) -> SyntheticLog:
        """Returns a log that continues the one in the database and has no device yet."""
        [[log_id, size, frontier, newest_ms]] = await connection.fetch(_HEAD, PROJECT)
        at_ms = max(newest_ms, time.time_ns() // 1_000_000)
        end = End(log_id, size, merkle.from_text(frontier), at_ms)
        return SyntheticLog(end, self._devices)


async def _without_keys(connection: _Connection) -> list[asyncpg.Record]:
    """Drops the keys of the tables, and turns the guards of the log off; returns the keys."""
    keys = await connection.fetch(_KEYS, list(KEYED))
    for name, table, _ in keys:
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for table in GUARDED:
        await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    return keys


async def _with_keys(connection: _Connection, keys: Sequence[asyncpg.Record]) -> None:
    for name, table, definition in keys:
        await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    for table, trigger in await connection.fetch(_TRIGGERS, list(GUARDED)):
        await connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")


async def _copied(to: Target, devices: int, reports: int) -> None:
    """Appends the registrations of devices and reports, and writes the views' rows of all."""
    made, log_id, size = to.made, to.made.end.log_id, to.made.end.size
    if devices:
        await _copy(to, made.registrations(), ("registering", devices))
    await _copy(to, made.reports(reports), ("reporting", reports))
    await to.connection.execute("TRUNCATE device_current, fleet_versions")
    await _copy(to, made.summaries(), ("current state", made.devices))
    await to.connection.execute(_IDENTIFY, log_id, size)


async def _copy(to: Target, pages: Iterator[Rows], shown: tuple[str, int]) -> None:
    """Copies pages of rows, moves the head after each, and adds partitions where they are due."""
    what, total = shown
    with Progress() as progress:
        task = progress.add_task(what, total=total)
        for page in pages:
            for table, rows in page.items():
                await to.connection.copy_records_to_table(
                    table, records=rows, columns=COLUMNS[table]
                )
            await _move_head(to, to.made.end)
            done = page.get("events") or page.get("device_current") or ()
            progress.advance(task, len(done))


async def _move_head(to: Target, end: End) -> None:
    text = merkle.to_text(end.frontier)
    await to.connection.execute(_MOVE_HEAD, end.log_id, end.size, text, end.recorded_at_ms)
    if await to.connection.fetchval(_LEFT, end.size) < to.positions // 2:
        division = dividing.Division(positions=to.positions)
        await migrate(postgres.migrating(to.dsn), INSTANCE, division=division)

"""Records when devices last called. Holds all SQL that writes `device_seen`.

A call that appends no event causes no write of its own: its time is kept in memory and written with
the other times every 30 s, and at the end. A crash loses at most the last 30 s of these times; an
unavailable database delays them. The exception is the first call of a device, which is durable
before it is answered (`Seen.first`): a device that has authenticated never counts as never seen.

A row with the time 0 says that the device never called. `claim_never_seen` writes such rows: they
make a device's first call wait, on every server, for the commit that decides about the device.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from itertools import batched

from firmtrail.access.batches import BatchWriter
from firmtrail.database.database import Database, Given, Statement, Unavailable

FLUSH_EVERY_S = 30
CHUNK_ROWS = 500
WAITING_MAX = 100_000

_INSERT = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT given.project, given.device, given.seen_at_ms
FROM given
WHERE TRUE
ON CONFLICT (project, device) DO UPDATE
SET seen_at_ms = excluded.seen_at_ms
WHERE device_seen.seen_at_ms < excluded.seen_at_ms"""

_CLAIM = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT $1, given.device, 0
FROM given
WHERE TRUE
ON CONFLICT (project, device) DO UPDATE
SET seen_at_ms = 0
WHERE device_seen.seen_at_ms = 0
RETURNING device"""

_LAST_SEEN = """\
SELECT device_seen.device, device_seen.seen_at_ms
FROM given
CROSS JOIN device_seen
WHERE device_seen.project = $1 AND device_seen.device = given.device"""


def last_seen(project: str, devices: Sequence[str]) -> Statement:
    """Gives (device, seen_at_ms) of the devices that called without an event; `flush` first."""
    given = Given("device text", [(device,) for device in devices])
    return Statement(_LAST_SEEN, (project,), given)


def claim_never_seen(project: str, devices: Iterable[str]) -> Statement:
    """Gives (device,) of the devices that made no call, reports excepted: the caller knows these.
    Until the transaction ends, the first call of each of these devices waits to be written."""
    given = Given("device text", [(device,) for device in sorted(devices)])
    return Statement(_CLAIM, (project,), given)


def called(times: Sequence[tuple[str, str, int]]) -> Statement:
    """Writes (project, device, time) of calls; none makes a device's time earlier."""
    # All servers use one order, so two that lock the same rows never deadlock. Postgres refuses to
    # update the same row twice in one statement.
    latest = {(project, device): at_ms for project, device, at_ms in sorted(times)}
    rows = [(*device, at_ms) for device, at_ms in latest.items()]
    return Statement(_INSERT, (), Given("project text, device text, seen_at_ms bigint", rows))


class Seen:
    """Holds the times to write. `run` writes them until it is cancelled; call `flush` after it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[tuple[str, str], int] = {}
        """(project, device) -> time"""
        self._full = asyncio.Event()
        self._firsts: BatchWriter[tuple[str, str, int]] = BatchWriter(self._write, CHUNK_ROWS)

    def touch(self, project: str, device: str, now_ms: int) -> None:
        """Notes an authenticated call of the device."""
        self._waiting[project, device] = now_ms
        if len(self._waiting) >= WAITING_MAX:
            self._full.set()

    async def first(self, project: str, device: str, now_ms: int) -> None:
        """Writes the time of a device's first call; returns when it is durable. First calls that
        arrive during a write share the next transaction. Raises `Unavailable`."""
        await self._firsts.add((project, device, now_ms))

    async def run(self) -> None:
        """Writes the gathered times every 30 s, or as soon as there are `WAITING_MAX` of them."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), FLUSH_EVERY_S)
            self._full.clear()
            with contextlib.suppress(Unavailable):  # the times stay for the next round
                await self.flush()

    async def flush(self) -> None:
        """Writes the gathered times; raises `Unavailable` and keeps those that are not written."""
        taken, self._waiting = self._waiting, {}
        for some in batched(sorted(taken.items()), CHUNK_ROWS):
            try:
                await self._write([(*device, at_ms) for device, at_ms in some])
            except Unavailable:
                self._waiting = taken | self._waiting
                raise

    async def _write(self, rows: Sequence[tuple[str, str, int]]) -> None:
        async with self._db.transaction() as tx:
            await tx.run(called(rows))

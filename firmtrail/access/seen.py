"""When did a device last call? All SQL that writes `device_seen`.

A call that records nothing writes nothing: its time is kept in memory and written with the others'
every 30 s, and at the end. A crash loses at most the last 30 s of these times; a database that is
away delays them.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import batched

from firmtrail.eventstore.database import Database, Given, Statement, Unavailable

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

_LAST_SEEN = """\
SELECT device_seen.device, device_seen.seen_at_ms
FROM given
CROSS JOIN device_seen
WHERE device_seen.project = $1 AND device_seen.device = given.device"""


def last_seen(project: str, devices: Sequence[str]) -> Statement:
    """Give (device, seen_at_ms) of those with a call that recorded nothing; `flush` before it."""
    given = Given("device text", [(device,) for device in devices])
    return Statement(_LAST_SEEN, (project,), given)


class Seen:
    """The times not yet written; `run` writes them until it is cancelled, then call `flush`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[tuple[str, str], int] = {}
        self._full = asyncio.Event()

    def touch(self, project: str, device: str, now_ms: int) -> None:
        """Note an authenticated call of the device."""
        self._waiting[project, device] = now_ms
        if len(self._waiting) >= WAITING_MAX:
            self._full.set()

    async def run(self) -> None:
        """Write what gathers, every 30 s or as soon as it is much."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), FLUSH_EVERY_S)
            self._full.clear()
            with contextlib.suppress(Unavailable):  # the times stay, for the next round
                await self.flush()

    async def flush(self) -> None:
        """Write what has gathered; raises `Unavailable` and keeps what is not yet written."""
        taken, self._waiting = self._waiting, {}
        # In one order on every server: two that lock the same rows never wait for each other.
        for some in batched(sorted(taken.items()), CHUNK_ROWS):
            try:
                await self._write([(project, device, at) for (project, device), at in some])
            except Unavailable:
                self._waiting = taken | self._waiting
                raise

    async def _write(self, rows: list[tuple[str, str, int]]) -> None:
        given = Given("project text, device text, seen_at_ms bigint", rows)
        async with self._db.transaction() as tx:
            await tx.run(Statement(_INSERT, (), given))

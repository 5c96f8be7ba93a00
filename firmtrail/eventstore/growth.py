"""Has a log grown? One poll a process tells all who wait, whichever server appended.

A poll is one query for all logs that somebody waits for; with nobody waiting there is none.
"""

import asyncio
import contextlib
from typing import NamedTuple

from firmtrail.eventstore.database import Database, Given, Statement, Unavailable

POLL_S = 0.2

_SIZES = """\
SELECT given.n, log_heads.size, log_heads.closed
FROM given
CROSS JOIN log_heads
WHERE log_heads.log_id = given.n"""


class Grown(NamedTuple):
    """What became of a log that was waited for."""

    size: int
    is_over: bool
    """Nothing will come behind this size from here: the log is closed, or the server stops."""


class _Waiter(NamedTuple):
    size: int
    grown: asyncio.Future[Grown]


class Growth:
    """Who waits for which log; `run` polls until it is cancelled, `stop` sends everybody home."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiting: dict[int, list[_Waiter]] = {}
        self._somebody = asyncio.Event()
        self._is_stopped = False

    async def beyond(self, log_id: int, size: int) -> Grown:
        """Wait until the log is longer than `size`, or over."""
        if self._is_stopped:
            return Grown(size, is_over=True)
        grown: asyncio.Future[Grown] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(log_id, []).append(_Waiter(size, grown))
        self._somebody.set()
        return await grown

    async def run(self) -> None:
        """Poll while somebody waits. A database that is away only delays."""
        while True:
            await self._somebody.wait()
            await asyncio.sleep(POLL_S)
            with contextlib.suppress(Unavailable):
                await self._poll()

    def stop(self) -> None:
        """Tell everybody who waits, and who comes later, that nothing will come from here."""
        self._is_stopped = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                _tell(waiter, Grown(waiter.size, is_over=True))
        self._waiting.clear()

    async def _poll(self) -> None:
        given = Given("n bigint", [(log_id,) for log_id in self._waiting])
        for log_id, size, closed in await self._db.read(Statement(_SIZES, (), given)):
            self._settle(log_id, Grown(size, bool(closed)))
        if not self._waiting:
            self._somebody.clear()

    def _settle(self, log_id: int, grown: Grown) -> None:
        """Tell those whom it concerns, and forget who has gone."""
        staying = []
        for waiter in self._waiting.pop(log_id, ()):
            if grown.is_over or waiter.size < grown.size:
                _tell(waiter, grown)
            elif not waiter.grown.done():
                staying.append(waiter)
        if staying:
            self._waiting[log_id] = staying


def _tell(waiter: _Waiter, grown: Grown) -> None:
    if not waiter.grown.done():  # done: who waited was cancelled
        waiter.grown.set_result(grown)

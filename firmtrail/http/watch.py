"""Who waits for a log to go on? A server with waiters reads how far their logs are every 200 ms.

One query for all logs that anybody waits for, whatever the number of waiters; without waiters none.
What another server recorded is seen as well as what this one did.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

from firmtrail.eventstore.database import Database, Given, Statement, Unavailable
from firmtrail.projections.check_in import Counts

EVERY_S = 0.2

_REACHED = """\
SELECT
    given.log_id, log_heads.size, log_heads.control_count, log_heads.nudge_count, log_heads.closed
FROM given
CROSS JOIN log_heads
WHERE log_heads.log_id = given.log_id"""


class Reached(NamedTuple):
    """How far a log is."""

    size: int
    control: int
    nudge: int
    is_closed: int
    """Nothing will come behind this size: a newer log of the project has replaced this one."""


type IsNews = Callable[[Reached], bool]


def decides_anew(seen: Counts) -> IsNews:
    """News to a device that waits: what decides has changed, or somebody nudged a device."""
    return lambda reached: (reached.control, reached.nudge) != (seen.control, seen.nudge)


def grew(size: int) -> IsNews:
    """News to who waits for an answer: anything was recorded."""
    return lambda reached: reached.size > size


def grew_or_closed(size: int) -> IsNews:
    """News to who follows the log."""
    return lambda reached: reached.size > size or bool(reached.is_closed)


class _Waiter(NamedTuple):
    is_news: IsNews
    woken: asyncio.Future[Reached | None]


class Watch:
    """The waiters of one server; `run` looks for them until it is cancelled."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiters: dict[int, list[_Waiter]] = {}
        self._wanted = asyncio.Event()
        self._is_closed = False

    async def until(self, log_id: int, is_news: IsNews, timeout_s: float) -> Reached | None:
        """How far the log is, once that is news; None when time is up or the server drains."""
        if self._is_closed or timeout_s <= 0:
            return None
        woken: asyncio.Future[Reached | None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(log_id, [])
        waiters.append(waiter := _Waiter(is_news, woken))
        self._wanted.set()
        try:
            return await asyncio.wait_for(woken, timeout_s)
        except TimeoutError:
            return None
        finally:
            if waiter in (left := self._waiters.get(log_id, [])):
                left.remove(waiter)
                if not left:
                    del self._waiters[log_id]

    async def run(self) -> None:
        """Look, as long as anybody waits."""
        while True:
            await self._wanted.wait()
            if not self._waiters:
                self._wanted.clear()
                continue
            with contextlib.suppress(Unavailable):  # whoever waits is answered when time is up
                await self._look()
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        given = Given("log_id bigint", [(log_id,) for log_id in self._waiters])
        for log_id, *reached in await self._db.read(Statement(_REACHED, (), given)):
            self._wake(log_id, Reached(*reached))

    def _wake(self, log_id: int, reached: Reached) -> None:
        for waiter in self._waiters.get(log_id, []):
            if not waiter.woken.done() and waiter.is_news(reached):
                waiter.woken.set_result(reached)

    def close(self) -> None:
        """Nobody waits any longer: the server drains."""
        self._is_closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.woken.done():
                    waiter.woken.set_result(None)

"""Wakes requests that wait for a log to grow: every 200 ms it reads how far their logs are.

One query serves all logs that anybody waits for, whatever the number of waiters; without waiters
there is none. What another server recorded is seen as well as what this one did. A nudge concerns
one device: if a log was nudged, one more query says which devices its new events are about, and
only their waiters wake. A waiter whose client is gone is let go.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Statement, Unavailable
from firmtrail.eventstore import log
from firmtrail.projections.check_in import Counts

EVERY_S = 0.2

_REACHED = """\
SELECT
    given.log_id, log_heads.size, log_heads.control_count, log_heads.nudge_count, log_heads.closed
FROM given
CROSS JOIN log_heads
WHERE log_heads.log_id = given.log_id"""


class WatchedHead(NamedTuple):
    """How far a log is."""

    size: int
    control: int
    nudge: int
    is_closed: int
    """Nothing will come after this size: a newer log of the project has replaced this one."""


type IsNews = Callable[[WatchedHead], bool]

NUDGED_EVENTS_MAX = 2_000
"""If a nudged log grew by more events, all devices that wait on it are looked at again."""


@dataclass(slots=True)
class DeviceNews:
    """What is news to a device that waits: an order of the log, or a nudge of the device itself."""

    device: str
    seen: Counts
    """How far the log was when the device was last looked at, or known not to be concerned."""

    def is_ordered(self, reached: WatchedHead) -> bool:
        return reached.control > self.seen.control

    def is_log_nudged(self, reached: WatchedHead) -> bool:
        return reached.nudge > self.seen.nudge


def grew(size: int) -> IsNews:
    """News to a caller that waits for an answer: anything was recorded."""
    return lambda reached: reached.size > size


def grew_or_closed(size: int) -> IsNews:
    """News to a caller that follows the log."""
    return lambda reached: reached.size > size or bool(reached.is_closed)


def _never() -> bool:
    return False


class _Waiter(NamedTuple):
    news: IsNews | DeviceNews
    woken: asyncio.Future[WatchedHead | None]
    is_gone: Callable[[], bool]

    def wake(self, reached: WatchedHead | None) -> None:
        if not self.woken.done():
            self.woken.set_result(reached)


class Watch:
    """The waiters of one server; `run` looks for them until it is cancelled."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._waiters: dict[int, list[_Waiter]] = {}
        self._wanted = asyncio.Event()
        self._is_closed = False

    async def until(
        self,
        log_id: int,
        news: IsNews | DeviceNews,
        timeout_s: float,
        is_gone: Callable[[], bool] = _never,
    ) -> WatchedHead | None:
        """Returns how far the log is, once that is news; None when time is up, when the client is
        gone, or when the server drains."""
        if self._is_closed or timeout_s <= 0:
            return None
        woken: asyncio.Future[WatchedHead | None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(log_id, [])
        waiters.append(waiter := _Waiter(news, woken, is_gone))
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
        """Looks at the logs as long as a request waits."""
        while True:
            await self._wanted.wait()
            if not self._waiters:
                self._wanted.clear()
                continue
            with contextlib.suppress(Unavailable):  # waiting requests end when their time is up
                await self._look()
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        self._let_go()
        given = Given("log_id bigint", [(log_id,) for log_id in self._waiters])
        for log_id, *columns in await self._db.read(Statement(_REACHED, (), given)):
            reached, nudged = WatchedHead(*columns), []
            for waiter in self._waiters.get(log_id, []):
                if not isinstance(waiter.news, DeviceNews):
                    if waiter.news(reached):
                        waiter.wake(reached)
                elif waiter.news.is_ordered(reached):
                    waiter.wake(reached)
                elif waiter.news.is_log_nudged(reached):
                    nudged.append((waiter, waiter.news))
            if nudged:
                await self._wake_nudged(log_id, reached, nudged)

    async def _wake_nudged(
        self, log_id: int, reached: WatchedHead, waiting: Sequence[tuple[_Waiter, DeviceNews]]
    ) -> None:
        """Wakes those of the waiters that the events since they were looked at are about."""
        start = min(news.seen.size for _, news in waiting)
        is_far = reached.size - start > NUDGED_EVENTS_MAX
        streams = (
            frozenset() if is_far else await log.streams(self._db, log_id, start, reached.size)
        )
        for waiter, news in waiting:
            if is_far or f"device/{news.device}" in streams:
                waiter.wake(reached)
            else:
                news.seen = Counts(reached.size, reached.control, reached.nudge)

    def _let_go(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if waiter.is_gone():
                    waiter.wake(None)

    def close(self) -> None:
        """Nobody waits any longer: the server drains."""
        self._is_closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake(None)

"""Wakes requests that wait for a log to grow: every 200 ms it reads the heads of their logs.

One query reads all logs that a request waits for, whatever the number of waiters; without waiters
there is no query. It finds events that another server recorded as well as this server's own. A
nudge concerns one device: if a log was nudged, one more query finds the devices that its new events
are about, and only their waiters wake. A waiter whose client has disconnected is released.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Statement, Unavailable
from firmtrail.eventstore import log
from firmtrail.projections.check_in import LogCounts

EVERY_S = 0.2

_REACHED = """\
SELECT
    given.log_id, log_heads.size, log_heads.control_count, log_heads.nudge_count, log_heads.closed
FROM given
CROSS JOIN log_heads
WHERE log_heads.log_id = given.log_id"""


class WatchedHead(NamedTuple):
    """Holds the counts of a log's head."""

    size: int
    control: int
    nudge: int
    is_closed: int
    """1 if the log ends at this size, because a newer log of the project has replaced it."""


type IsNews = Callable[[WatchedHead], bool]

NUDGED_EVENTS_MAX = 2_000
"""Limits how far a nudged log may grow before all devices that wait on it are read again."""


@dataclass(slots=True)
class DeviceNews:
    """Decides what wakes a device that waits: an order in the log, or a nudge of the device."""

    device: str
    seen: LogCounts
    """Holds the counts of the log at which the device was last read, or known to be unaffected."""


def grew(size: int) -> IsNews:
    """Returns the test that wakes a caller that waits for an answer: any new event passes it."""
    return lambda head: head.size > size


def grew_or_closed(size: int) -> IsNews:
    """Returns the test that wakes a caller that follows the log: a new event passes it, and the end
    of the log."""
    return lambda head: head.size > size or bool(head.is_closed)


class _Waiter(NamedTuple):
    news: IsNews | DeviceNews
    woken: asyncio.Future[WatchedHead | None]
    is_disconnected: Callable[[], bool]

    def wake(self, head: WatchedHead | None) -> None:
        if not self.woken.done():
            self.woken.set_result(head)


class Watch:
    """Holds the waiters of one server; `run` reads their logs until it is cancelled."""

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
        is_disconnected: Callable[[], bool] = lambda: False,
    ) -> WatchedHead | None:
        """Returns the log's head once it is news. Returns None when time is up, when the client has
        disconnected, or when the server drains."""
        if self._is_closed or timeout_s <= 0:
            return None
        woken: asyncio.Future[WatchedHead | None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(log_id, [])
        waiters.append(waiter := _Waiter(news, woken, is_disconnected))
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
        """Reads the logs as long as a request waits."""
        while True:
            await self._wanted.wait()
            if not self._waiters:
                self._wanted.clear()
                continue
            with contextlib.suppress(Unavailable):  # requests that wait end when their time is up
                await self._look()
            await asyncio.sleep(EVERY_S)

    async def _look(self) -> None:
        self._release_disconnected()
        given = Given("log_id bigint", [(log_id,) for log_id in self._waiters])
        for log_id, *columns in await self._db.read(Statement(_REACHED, (), given)):
            head, nudged = WatchedHead(*columns), []
            for waiter in self._waiters.get(log_id, []):
                if not isinstance(waiter.news, DeviceNews):
                    if waiter.news(head):
                        waiter.wake(head)
                elif head.control > waiter.news.seen.control:
                    waiter.wake(head)
                elif head.nudge > waiter.news.seen.nudge:
                    nudged.append((waiter, waiter.news))
            if nudged:
                await self._wake_nudged(log_id, head, nudged)

    async def _wake_nudged(
        self, log_id: int, head: WatchedHead, waiting: Sequence[tuple[_Waiter, DeviceNews]]
    ) -> None:
        """Wakes the waiters whose devices have events since they were last read."""
        start = min(news.seen.size for _, news in waiting)
        is_far = head.size - start > NUDGED_EVENTS_MAX
        streams = frozenset() if is_far else await log.streams(self._db, log_id, start, head.size)
        for waiter, news in waiting:
            if is_far or f"device/{news.device}" in streams:
                waiter.wake(head)
            else:
                news.seen = LogCounts(head.size, head.control, head.nudge)

    def _release_disconnected(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                if waiter.is_disconnected():
                    waiter.wake(None)

    def close(self) -> None:
        """Releases all waiters, because the server drains."""
        self._is_closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake(None)

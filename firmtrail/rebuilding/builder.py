"""Runs the rebuilds of one process, starts those that are needed, and keeps their results.

A view that is live in an older revision than this code's, or in none, is rebuilt automatically. A
rebuild that was requested, and whose process ended, is continued automatically. Of several
processes on one database, one works at a rebuild. The others see it advance, and one of them takes
it over if it does not.

Where servers of the version before may serve the same database, they can't write a project once
new views are live. So an automatic rebuild only prepares the views there, and keeps them near the
end of the log. They are made live when a request for the project reaches a server of this version:
`take_over`.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Callable
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import islice
from time import monotonic
from typing import NamedTuple

import structlog
from uuid_utils import uuid7

from firmtrail.database import shared_work
from firmtrail.database.database import Database, Script, Statement, Unavailable
from firmtrail.database.stubs import NoArchive
from firmtrail.eventstore import log
from firmtrail.projections.controls import Controls
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.rebuilding import fitness, generations
from firmtrail.rebuilding.generations import Build, Busy, Overtaken
from firmtrail.rebuilding.rebuild import LAST_EVENTS_MAX, RebuildProgress, prepare, rebuild
from firmtrail.rebuilding.setbacks import Setbacks

LOOK_EVERY_S = 2
LEASE_MS = 3_000
"""A rebuild that has not advanced for so long is taken over by another process."""
SETTLE_S = 1.0
"""For how long the first request waits that reaches a server of this version: by then, servers of
another version have answered the requests that reached them before."""
TAKE_OVER_S_MAX = 15.0
"""With `SETTLE_S` less than the time for which a server that stops waits for its requests."""
TRY_EVERY_S = 0.05
PARALLEL_MAX = 16
"""Limits the logs that a process takes over at a time, and the rebuilds that it begins without a
request."""

_log = structlog.get_logger("firmtrail.rebuild")

_UNFINISHED = "SELECT DISTINCT log_id FROM rebuilds WHERE log_id > $1 ORDER BY log_id LIMIT 1000"

_LOGS = "SELECT log_id FROM log_heads WHERE closed = 0 AND log_id > $1 ORDER BY log_id LIMIT 1000"


class RebuildState(NamedTuple):
    """Holds the state of a log's rebuild."""

    build: Build | None
    """None: no rebuild is under way."""
    size: int
    """The size of the log."""
    is_running: bool
    """Whether this process works at it; also while it deletes the rows that were live before."""
    is_prepared: bool
    """Whether the views that this code needs are prepared, next to those of another version."""
    failure: str | None
    """The error that ended the last rebuild of this process, if it failed."""


type OnProgress = Callable[[int, int, int], None]
"""Is called with (position, events folded since the last call, rebuilds running here)."""

type Claiming = Callable[[int, frozenset[str], str, int], Script[Build | None]]
"""Is called with (log, views, builder, lease in milliseconds). Returns None to begin nothing."""

type Building = Callable[[Database, Build], AsyncGenerator[RebuildProgress]]


class Running(NamedTuple):
    """Holds a rebuild that this process works at."""

    build: Build
    task: asyncio.Task[None]
    is_preparing: bool


class Duty(NamedTuple):
    """Says which rebuilds a process begins and continues."""

    is_alone: bool
    """Whether no other process can write this database, so an unfinished rebuild has no other
    builder."""
    has_other_versions: bool = False
    """Whether servers of another version may serve it, so that views are only prepared."""
    is_automatic: bool = True
    """Whether it also works at rebuilds that nobody requested from this process."""

    @property
    def takes_over(self) -> bool:
        """Returns whether requests make it take over logs whose views are prepared."""
        return self.has_other_versions and self.is_automatic


class Builder:
    """Rebuilds views of any log for as long as `run` runs. `on_progress` is called after each
    step. `controls` are those of this process, whoever rebuilds what they were read from."""

    def __init__(
        self, db: Database, duty: Duty, controls: Controls, on_progress: OnProgress
    ) -> None:
        self._db = db
        self._controls = controls
        self._duty = duty
        self._on_progress = on_progress
        self._lease_ms = 0 if duty.is_alone else LEASE_MS
        self._name = uuid7().hex
        self._running: dict[int, Running] = {}
        self._requested = dict[int, Building]()
        self._setbacks = Setbacks()
        self._claiming = asyncio.Lock()
        self._ended = asyncio.Event()
        self._taking: dict[int, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(PARALLEL_MAX)
        self._next_look: asyncio.Task[None] | None = None
        self._expected: dict[int, float] = {}
        """The logs that were not fit when this process was asked to take one over, and the time of
        `monotonic` from which it may."""
        self._found = fitness.ALL_FIT

    @property
    def unfit(self) -> AbstractSet[int]:
        """Returns the logs with a view that is live in a revision that this code does not read."""
        return self._found.differing.keys()

    @property
    def prepared(self) -> AbstractSet[int]:
        """Returns the logs among them that `take_over` makes fit within seconds: not those whose
        rebuild failed here."""
        found = self._found.prepared if self._duty.takes_over else {}
        return found.keys() - self.failed

    @property
    def failed(self) -> AbstractSet[int]:
        """Returns the logs whose last rebuild failed here: only a request begins another one."""
        return self._setbacks.failures.keys()

    async def request(self, log_id: int, wanted: frozenset[str]) -> Build:
        """Starts a rebuild of these views of the log, or joins one that runs; returns it. Raises
        `Busy` if one runs that does not include these views in this code's revisions."""
        build = await self._begun(log_id, wanted, rebuild, generations.claim)
        assert build is not None
        self._requested[log_id] = rebuild
        return build

    async def request_ahead(self, log_id: int) -> Build | None:
        """Prepares the views of the log that are live in another revision than this code's, and
        leaves them to `take_over`. Returns None if there are none; raises `Busy` as `request`."""
        await self.look()
        if (wanted := self._found.differing.get(log_id)) is None:
            return None
        build = await self._begun(log_id, wanted, prepare, generations.claim_differing)
        if build is not None:
            self._requested[log_id] = prepare
        return build

    async def _begun(
        self, log_id: int, wanted: frozenset[str], work: Building, claim: Claiming
    ) -> Build | None:
        running = self._running.get(log_id)
        if running is not None and (await self.state(log_id)).build is None:
            await asyncio.wait([running.task])  # it only deletes rows that were live before
        async with self._claiming:
            if log_id in self._running:
                return _joined(self._running[log_id].build, wanted)
            head = await log.head(self._db, log_id)
            name = str(LogName(head.project, head.number))
            try:
                build = await self._db.play(claim, log_id, wanted, self._name, self._lease_ms)
            except Busy as busy:
                return _joined(busy.build, wanted)
            if build is None:
                return None
            self._setbacks.failures.pop(log_id, None)
            task = asyncio.create_task(self._work(build, name, work))
            self._running[log_id] = Running(build, task, work is prepare)
            task.add_done_callback(lambda task: self._end(log_id, name, task))
            return build

    async def state(self, log_id: int) -> RebuildState:
        rows = await self._db.read(generations.load_build(log_id))
        size = (await log.head(self._db, log_id)).size
        build = generations.build_of(log_id, rows)
        is_running, is_prepared = log_id in self._running, log_id in self._found.prepared
        failure = self._setbacks.failures.get(log_id)
        return RebuildState(build, size, is_running, is_prepared, failure)

    async def run(self) -> None:
        """Looks for views to rebuild until it is cancelled: regularly, and after each rebuild."""
        tidying = [asyncio.create_task(self._tidy())] if self._duty.is_automatic else []
        try:
            while True:
                self._ended.clear()
                with contextlib.suppress(Unavailable):  # the database may be back at the next look
                    await self.look()
                    await self.begin()
                    await self._take_over_expected()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), LOOK_EVERY_S)
        finally:
            running = [each.task for each in self._running.values()]
            looking = [self._next_look] if self._next_look else []
            tasks = [*tidying, *running, *self._taking.values(), *looking]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Finds the logs whose views this code does not read, and those that are prepared. Forgets
        what this process cached of views that have been rebuilt."""
        before, self._found = self._found, await fitness.read(self._db)
        await self._controls.forget_rebuilt()
        for log_id in before.differing.keys() - self.unfit:  # here, or by another process
            self._setbacks.forget(log_id)

    async def begin(self) -> None:
        """Begins the rebuilds of views of older code, and continues those that no longer
        advance."""
        found = self._found
        for log_id in found.differing.keys() - found.newer if self._duty.is_automatic else ():
            if self._may_begin(log_id):
                with contextlib.suppress(Busy):
                    wanted, work = found.differing[log_id], self._own_work(log_id)
                    await self._begun(log_id, wanted, work, generations.claim_older)
        for log_id in await self._unfinished():
            is_ours = self._duty.is_automatic or log_id in self._requested
            if not is_ours or not self._may_begin(log_id):
                continue
            build = (await self.state(log_id)).build
            if build and build.idle_ms >= self._lease_ms and build.is_of_this_code:
                with contextlib.suppress(Busy):
                    work = self._own_work(log_id)
                    await self._begun(log_id, build.wanted, work, generations.resume)

    async def _unfinished(self) -> list[int]:
        """Returns the logs that are being rebuilt, by any process. A request that is not among them
        is fulfilled, and forgotten."""
        async with self._claiming:
            logs = [log_id async for log_id in self._logs(_UNFINISHED)]
            fulfilled = self._requested.keys() - logs - self._running.keys()
            for log_id in fulfilled:
                del self._requested[log_id]
        return logs

    def _may_begin(self, log_id: int) -> bool:
        """Returns whether this process has room for another rebuild, and this one needs it now."""
        if len(self._running) >= PARALLEL_MAX or log_id in self._running:
            return False
        return not self._setbacks.is_left_alone(log_id) and not self._is_near_end(log_id)

    def _own_work(self, log_id: int) -> Building:
        """Returns how this process rebuilds views of a log."""
        if (requested := self._requested.get(log_id)) is not None:
            return requested
        is_prepared = self._duty.has_other_versions and log_id in self.unfit
        return prepare if is_prepared else rebuild

    def _is_near_end(self, log_id: int) -> bool:
        """Returns whether the views are prepared, and need no more events now."""
        if not self._duty.has_other_versions or self._requested.get(log_id) is rebuild:
            return False
        return self._found.prepared.get(log_id, sys.maxsize) <= LAST_EVENTS_MAX

    async def take_over(self, log_id: int) -> None:
        """Makes the prepared views of a log live, so that this code serves it. From then on servers
        of another version can't write it. The other logs that are prepared follow soon. Returns
        without it if they are no longer prepared, or can't be made live here.

        Raises `Unavailable` if that takes too long, or if the process ends.
        """
        for each in self.unfit - self._expected.keys():
            self._expected[each] = monotonic() + SETTLE_S
        if log_id not in self._taking:
            task = self._taking[log_id] = shared_work.begin(partial(self._take, log_id))
            task.add_done_callback(lambda _: self._taking.pop(log_id))
        await shared_work.result_of(self._taking[log_id])

    async def _take(self, log_id: int) -> None:
        await asyncio.sleep(self._expected.get(log_id, 0) - monotonic())
        try:
            async with asyncio.timeout(TAKE_OVER_S_MAX):
                while log_id in self.prepared:
                    if not self._setbacks.is_left_alone(log_id):
                        with contextlib.suppress(Busy):
                            await self._finish(log_id)
                    await self._looked_again()
        except TimeoutError:
            message = "The views of this version could not be made live in time."
            raise Unavailable(message) from None

    async def _finish(self, log_id: int) -> None:
        """Does the last part of a rebuild whose views are prepared. Raises `Busy`. Does nothing if
        they are live by now, or no longer prepared."""
        async with self._turns:
            running = self._running.get(log_id)
            if running is not None and running.is_preparing:
                running.task.cancel()
                await asyncio.wait([running.task])
            if (wanted := self._found.differing.get(log_id)) is not None:
                await self._begun(log_id, wanted, rebuild, generations.resume)
            while log_id in self._running and log_id in self.unfit:
                await self._looked_again()

    async def _looked_again(self) -> None:
        """Waits for the next look. All rebuilds that end, and all logs that are being taken over,
        share it."""
        if self._next_look is None or self._next_look.done():
            self._next_look = shared_work.begin(self._look_soon)
        await shared_work.result_of(self._next_look)

    async def _look_soon(self) -> None:
        await asyncio.sleep(TRY_EVERY_S)
        await self.look()

    async def _take_over_expected(self) -> None:
        """Takes over logs that are prepared by now, if this process has to serve them."""
        self._expected = {each: at_s for each, at_s in self._expected.items() if each in self.unfit}
        ready = self._expected.keys() & self.prepared
        able = (each for each in ready if not self._setbacks.is_left_alone(each))
        taking = map(self.take_over, islice(able, PARALLEL_MAX))
        for failed in await asyncio.gather(*taking, return_exceptions=True):
            if isinstance(failed, Unavailable):
                _log.warning("not taken over", error=str(failed))
            elif failed is not None:
                raise failed

    async def _work(self, build: Build, name: str, work: Building) -> None:
        shown = {"log": name, "views": sorted(build.wanted)}
        if build.log_id not in self.prepared:
            _log.info("preparing" if work is prepare else "rebuilding", **shown, at=build.position)
        position, is_live = build.position, False
        async for step in work(self._db, build):
            is_live = step.is_live
            self._on_progress(
                step.build.position, step.build.position - position, len(self._running)
            )
            position = step.build.position
        with contextlib.suppress(Unavailable):
            await self._looked_again()
        if is_live:
            _log.info("rebuilt", **shown, at=position)
            await generations.delete_dead(self._db, build.log_id)

    def _end(self, log_id: int, name: str, task: asyncio.Task[None]) -> None:
        build = self._running.pop(log_id).build
        self._on_progress(build.position, 0, len(self._running))
        self._ended.set()
        if task.cancelled():  # by this process, which may try again
            return
        error = task.exception()
        if error is None:
            self._setbacks.forget(log_id)
            return
        if isinstance(error, NoArchive):  # this process will not get one
            self._setbacks.failures[log_id] = str(error)
            _log.error("rebuild failed", log=name, reason=str(error))
            return
        if isinstance(error, Unavailable | Overtaken):
            self._setbacks.interrupted(build, LOOK_EVERY_S)
            _log.warning("rebuild interrupted", log=name, reason=str(error))
            return
        self._setbacks.failures[log_id] = f"{type(error).__name__}: {error}"
        _log.error("rebuild failed", log=name, exc_info=error)

    async def _tidy(self) -> None:
        """Deletes dead rows that other processes left because they ended after their switch."""
        with contextlib.suppress(Unavailable):  # the next process to start does it then
            async for log_id in self._logs(_LOGS):
                await generations.delete_dead(self._db, log_id)

    async def _logs(self, text: str) -> AsyncGenerator[int]:
        """Yields the logs that all pages of a statement name."""
        after = 0
        while rows := await self._db.read(Statement(text, (after,))):
            for [after] in rows:
                yield after


def _joined(running: Build, wanted: frozenset[str]) -> Build:
    if running.includes(wanted):
        return running
    raise Busy(running)

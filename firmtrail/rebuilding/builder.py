"""Runs the rebuilds of one process, starts those that are needed, and keeps their results.

A view that is live in an older revision than this code's, or in none, is rebuilt automatically. A
rebuild that was requested, and whose process ended, is continued automatically. Of several
processes on one database, one works at a rebuild. The others see it advance, and one of them takes
it over if it does not.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import structlog
from uuid_utils import uuid7

from firmtrail.database.database import Database, Given, Statement, Unavailable
from firmtrail.database.stubs import NoArchive
from firmtrail.eventstore import log
from firmtrail.projections import fold
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.rebuilding import generations
from firmtrail.rebuilding.generations import Build, Busy, Overtaken
from firmtrail.rebuilding.rebuild import rebuild

LOOK_EVERY_S = 2
PAUSE_S_MAX = 60
"""Limits the pause after a rebuild was interrupted: it begins with `LOOK_EVERY_S`, and doubles
while the rebuild does not advance."""
LEASE_MS = 3_000
"""A rebuild that has not advanced for so long is taken over by another process."""

_log = structlog.get_logger("firmtrail.rebuild")

_OTHER_REVISIONS = """\
SELECT log_heads.log_id, given.name, coalesce(views.revision, -1) - given.revision
FROM given
CROSS JOIN log_heads
LEFT JOIN views ON views.log_id = log_heads.log_id AND views.name = given.name
WHERE log_heads.closed = 0 AND coalesce(views.revision, -1) <> given.revision
ORDER BY log_heads.log_id
LIMIT 10000"""

_UNFINISHED = "SELECT DISTINCT log_id FROM rebuilds ORDER BY log_id LIMIT 1000"

_LOGS = "SELECT log_id FROM log_heads WHERE closed = 0 AND log_id > $1 ORDER BY log_id LIMIT 1000"


class RebuildState(NamedTuple):
    """Holds the state of a log's rebuild."""

    build: Build | None
    """None: no rebuild is under way."""
    size: int
    """The size of the log."""
    is_running: bool
    """Whether this process works at it; also while it deletes the rows that were live before."""
    failure: str | None
    """The error that ended the last rebuild of this process, if it failed."""


class _Pause(NamedTuple):
    """Says when a rebuild that was interrupted is tried again."""

    position: int
    """Where the try began that was interrupted."""
    pause_s: float
    until_s: float
    """A time of `monotonic`."""


type OnProgress = Callable[[int, int, int], None]
"""Is called with (position, events folded since the last call, rebuilds running here)."""


class Builder:
    """Rebuilds views of any log for as long as `run` runs.

    `is_alone` says that no other process can write this database, so an unfinished rebuild has no
    other builder. `on_progress` is called after each step.
    """

    def __init__(self, db: Database, *, is_alone: bool, on_progress: OnProgress) -> None:
        self._db = db
        self._on_progress = on_progress
        self._lease_ms = 0 if is_alone else LEASE_MS
        self._name = uuid7().hex
        self._running: dict[int, tuple[Build, asyncio.Task[None]]] = {}
        self._failures: dict[int, str] = {}
        self._pauses: dict[int, _Pause] = {}
        self._claiming = asyncio.Lock()
        self._ended = asyncio.Event()
        self.unfit: frozenset[int] = frozenset()
        """The logs with a view that is live in a revision that this code does not read."""

    async def request(self, log_id: int, wanted: frozenset[str]) -> Build:
        """Starts a rebuild of these views of the log, or joins one that runs; returns it. Raises
        `Busy` if one runs that does not include these views."""
        async with self._claiming:
            if log_id in self._running:
                build, task = self._running[log_id]
                if (await self.state(log_id)).build is not None:
                    return _joined(build, wanted)
                await asyncio.wait([task])  # it only deletes rows that were live before
            head = await log.head(self._db, log_id)
            name = str(LogName(head.project, head.number))
            try:
                build = await self._db.play(
                    generations.claim, log_id, wanted, self._name, self._lease_ms
                )
            except Busy as busy:
                return _joined(busy.build, wanted)
            self._failures.pop(log_id, None)
            task = asyncio.create_task(self._work(build, name))
            self._running[log_id] = build, task
            task.add_done_callback(lambda task: self._end(log_id, name, task))
            return build

    async def state(self, log_id: int) -> RebuildState:
        rows = await self._db.read(generations.load_build(log_id))
        size = (await log.head(self._db, log_id)).size
        build = generations.build_of(log_id, rows)
        return RebuildState(build, size, log_id in self._running, self._failures.get(log_id))

    async def run(self) -> None:
        """Looks for views to rebuild until it is cancelled: regularly, and after each rebuild."""
        tidying = asyncio.create_task(self._tidy())
        try:
            while True:
                with contextlib.suppress(Unavailable):  # the database may be back at the next look
                    await self.look()
                    await self._take_over()
                self._ended.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ended.wait(), LOOK_EVERY_S)
        finally:
            tasks = [tidying, *(task for _, task in self._running.values())]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Finds the logs whose views this code does not read, and rebuilds those of older code."""
        given = Given("name text, revision bigint", list(fold.REVISIONS.items()))
        older: defaultdict[int, set[str]] = defaultdict(set)
        newer = set()
        for log_id, name, difference in await self._db.read(Statement(_OTHER_REVISIONS, (), given)):
            if difference > 0:
                newer.add(log_id)
            else:
                older[log_id].add(name)
        self.unfit = frozenset(older.keys() | newer)
        for log_id in older.keys() - newer - self._left_alone():
            with contextlib.suppress(Busy):
                await self.request(log_id, frozenset(older[log_id]))

    async def _take_over(self) -> None:
        """Takes over the rebuilds that no longer advance."""
        for [log_id] in await self._db.read(Statement(_UNFINISHED)):
            if log_id in self._running or log_id in self._left_alone():
                continue
            build = (await self.state(log_id)).build
            if build and build.idle_ms >= self._lease_ms and build.is_of_this_code:
                with contextlib.suppress(Busy):
                    await self.request(log_id, build.wanted)

    def _left_alone(self) -> set[int]:
        """Returns the logs whose rebuild failed here, or was interrupted a short time ago."""
        now_s = monotonic()
        paused = {log_id for log_id, pause in self._pauses.items() if now_s < pause.until_s}
        return paused | self._failures.keys()

    def _pause(self, build: Build) -> None:
        before = self._pauses.get(build.log_id)
        pause_s: float = LOOK_EVERY_S
        if before is not None and before.position == build.position:
            pause_s = min(2 * before.pause_s, PAUSE_S_MAX)
        self._pauses[build.log_id] = _Pause(build.position, pause_s, monotonic() + pause_s)

    async def _work(self, build: Build, name: str) -> None:
        _log.info("rebuilding", log=name, views=sorted(build.wanted), at=build.position)
        position = build.position
        async for step in rebuild(self._db, build):
            self._on_progress(
                step.build.position, step.build.position - position, len(self._running)
            )
            position = step.build.position
        _log.info("rebuilt", log=name, views=sorted(build.wanted), at=position)
        await generations.delete_dead(self._db, build.log_id)

    def _end(self, log_id: int, name: str, task: asyncio.Task[None]) -> None:
        build, _ = self._running.pop(log_id)
        self._on_progress(build.position, 0, len(self._running))
        self._ended.set()
        error = None if task.cancelled() else task.exception()
        if error is None:
            self._pauses.pop(log_id, None)
            return
        if isinstance(error, NoArchive):  # this process will not get one
            self._failures[log_id] = str(error)
            _log.error("rebuild failed", log=name, reason=str(error))
            return
        if isinstance(error, Unavailable | Overtaken):
            self._pause(build)
            _log.warning("rebuild interrupted", log=name, reason=str(error))
            return
        self._failures[log_id] = f"{type(error).__name__}: {error}"
        _log.error("rebuild failed", log=name, exc_info=error)

    async def _tidy(self) -> None:
        """Deletes dead rows that other processes left because they ended after their switch."""
        after = 0
        with contextlib.suppress(Unavailable):  # the next process to start does it then
            while logs := await self._db.read(Statement(_LOGS, (after,))):
                for [after] in logs:
                    await generations.delete_dead(self._db, after)


def _joined(running: Build, wanted: frozenset[str]) -> Build:
    if wanted <= running.wanted:
        return running
    raise Busy(running)

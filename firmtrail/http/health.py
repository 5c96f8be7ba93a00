"""Can this server do its work now? What /readyz says, and why it says no.

A server that drains says no first, so that nobody sends it more, and then finishes what it has.
"""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from firmtrail.database.database import Database, Unavailable
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.publisher import Publisher
from firmtrail.rebuilding.builder import Builder
from firmtrail.recording.commit import AHEAD_MS_MAX
from firmtrail.schema import health

FREE_BYTES_MIN = 64 * 1024 * 1024
CHECK_TIMEOUT_S = 5


class Readiness:
    """What the checks look at, for one process. `folder` is where an embedded database lies."""

    def __init__(
        self,
        db: Database,
        builder: Builder,
        *,
        folder: Path | None = None,
        publisher: Publisher | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._builder = builder
        self._folder = folder
        self._publisher = publisher
        self._clock = clock
        self.tasks: dict[str, asyncio.Task[None]] = {}
        """What has to run as long as the server does."""
        self.is_draining = False
        self.clock_until_ms: int | None = None
        """Until when writes are refused because a log is far ahead of the clock, as last found."""

    async def failures(self) -> list[str]:
        """The names of the checks that fail; none: ready."""
        failed = ["draining"] if self.is_draining else []
        failed += [name for name, task in self.tasks.items() if task.done()]
        if self._builder.unfit:
            failed.append("views")
        if self._folder and shutil.disk_usage(self._folder).free < FREE_BYTES_MIN:
            failed.append("disk")
        if self._publisher and self._publisher.following.problem:
            failed.append("checkpoints")
        return failed + await self._database_failures()

    @property
    def refused_logs(self) -> int:
        """How many logs take no appends. For the others, if there are any, a server is ready."""
        return len(self._refused)

    @property
    def _refused(self) -> frozenset[LogName]:
        return frozenset(self._publisher.minimum_sizes.refused if self._publisher else ())

    async def _database_failures(self) -> list[str]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                found = await health.read(self._db, self._refused)
        except (Unavailable, TimeoutError):
            return ["database"]
        failed = []
        if not found.has_schema:
            failed.append("schema")
        if found.is_read_only:
            failed.append("read_only")
        if found.is_refused:
            failed.append("logs")
        is_ahead = found.recorded_at_ms > self._clock() * 1000 + AHEAD_MS_MAX
        self.clock_until_ms = found.recorded_at_ms - AHEAD_MS_MAX if is_ahead else None
        if is_ahead:
            failed.append("clock")
        return failed

"""Checks whether this server can do its work now, for /readyz, and names the checks that fail.

A server that drains first reports that it is not ready, so that it gets no more requests. It then
finishes the requests that it has.
"""

import asyncio
import shutil
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from firmtrail.database.database import Database, Unavailable
from firmtrail.eventstore.log import AHEAD_MS_MAX
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.publisher import Publisher
from firmtrail.rebuilding.builder import Builder
from firmtrail.schema import health

FREE_BYTES_MIN = 64 * 1024 * 1024
CHECK_TIMEOUT_S = 5

_log = structlog.get_logger("firmtrail")


def _note_death(name: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("bug", exc_info=error, task=name)


class Readiness:
    """Holds what the checks of one process need. `folder` is the folder of an embedded database."""

    def __init__(
        self,
        db: Database,
        builder: Builder,
        *,
        folder: Path | None = None,
        publisher: Publisher | None = None,
    ) -> None:
        self._db = db
        self._builder = builder
        self._folder = folder
        self._publisher = publisher
        self.tasks: dict[str, asyncio.Task[None]] = {}
        """Holds the tasks that must run as long as the server does."""
        self.is_draining = False
        self.clock_until_ms: int | None = None
        """Holds the time until which writes are refused because a log is far ahead of the clock.

        It is as of the last check; None if no log is ahead.
        """

    def keep(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs a task that must run as long as the server does. If it ends by an error, which is a
        bug, that is logged; its name is then among `failures`."""
        task = self.tasks[name] = asyncio.create_task(work)
        task.add_done_callback(partial(_note_death, name))

    async def failures(self) -> list[str]:
        """Returns the names of the checks that fail; a server without failures is ready."""
        failed = ["draining"] if self.is_draining else []
        failed += [name for name, task in self.tasks.items() if task.done()]
        if self._builder.unfit - self._builder.prepared:
            failed.append("views")
        if self._folder and shutil.disk_usage(self._folder).free < FREE_BYTES_MIN:
            failed.append("disk")
        if self._publisher and self._publisher.following.problem:
            failed.append("checkpoints")
        return failed + await self._database_failures()

    @property
    def refused_logs(self) -> int:
        """Returns how many logs take no appends. The server is ready if it can serve others."""
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
        is_ahead = found.recorded_at_ms > time.time() * 1000 + AHEAD_MS_MAX
        self.clock_until_ms = found.recorded_at_ms - AHEAD_MS_MAX if is_ahead else None
        if is_ahead:
            failed.append("clock")
        return failed

"""Follows the logs for all webhooks of a database: a follower whose work is to start workers.

A round finds the webhooks that have something to send, and gives each a worker, a task of its own:
a slow receiver delays no other, and no report. At most `WORKERS_MAX` run in one process. Of several
servers, only the one with the lease of a webhook sends its messages.
"""

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic
from uuid import uuid4

import structlog

from firmtrail.database.database import Database, Unavailable
from firmtrail.followers.following import Following
from firmtrail.recording.recorder import Recorder
from firmtrail.repeats import Repeats
from firmtrail.webhooks import kept_deliveries, kept_notices, stored
from firmtrail.webhooks.sender import Sender
from firmtrail.webhooks.worker import Count, Sending, WebhookWorker

INTERVAL_S = 0.25
IDLE_S = 1.0
RETRY_S_MAX = 10.0
WORKERS_MAX = 200
FORGET_EVERY_S = 600.0

_log = structlog.get_logger("firmtrail.webhooks")

type _Key = tuple[str, str]
"""A project and the id of a webhook."""


class Deliverer:
    """Sends for all webhooks, for one process: a `Follower`. Open until `close`."""

    name = "webhooks"
    interval_s, idle_s, retry_s_max = INTERVAL_S, IDLE_S, RETRY_S_MAX
    passing_errors: tuple[type[Exception], ...] = (Unavailable, OSError)

    def __init__(
        self, db: Database, recorder: Recorder, sender: Sender, count: Count, *, is_alone: bool
    ) -> None:
        self.following: Following[list[_Key]] = Following(self)
        self._sending = Sending(db, recorder, sender, uuid4().hex, count, is_alone)
        self._bugs = Repeats()
        self._running: dict[_Key, tuple[WebhookWorker, asyncio.Task[None]]] = {}
        self._forgot_s = 0.0

    async def pending(self) -> AsyncGenerator[list[_Key]]:
        """Yields the webhooks that have something to send now."""
        await self._collect()
        await self._forget()
        if due := await stored.due(self._sending.db, WORKERS_MAX * 2):
            yield due

    async def follow(self, work: list[_Key]) -> None:
        """Starts a worker for each of these webhooks, and wakes those that run."""
        for key in work:
            if key in self._running:
                self._running[key][0].wake.set()
            elif len(self._running) < WORKERS_MAX:
                await self._start(key)

    async def close(self) -> None:
        """Ends all workers; each saves how far it is."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    async def _start(self, key: _Key) -> None:
        sending = self._sending
        webhook = await stored.acquire(sending.db, key, sending.process, is_alone=sending.is_alone)
        if webhook is not None:
            worker = WebhookWorker(sending, webhook)
            self._running[key] = worker, asyncio.create_task(worker.run())

    async def _collect(self) -> None:
        """Forgets the workers that ended. An error that ended one is a bug: it is logged, and keeps
        only this webhook waiting."""
        for key, (worker, task) in list(self._running.items()):
            if not task.done():
                continue
            del self._running[key]
            if (error := task.exception()) is not None:
                if self._bugs.due(key) is not None:
                    _log.error("bug", exc_info=error, project=key[0], webhook=key[1])
                await worker.break_off()

    async def _forget(self) -> None:
        if monotonic() - self._forgot_s >= FORGET_EVERY_S or not self._forgot_s:
            self._forgot_s = monotonic()
            await kept_deliveries.forget(self._sending.db)
            await kept_notices.forget(self._sending.db)

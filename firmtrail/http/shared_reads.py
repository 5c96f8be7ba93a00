"""Shares reads for a while, so that many open pages, or scrapes, cost little more than one.

A value is read at most once in that time for each key, and callers that come while it is read wait
for the same read. A failed read is not kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from cachetools import TTLCache

from firmtrail.database import shared_work

SHARED_S = 2
KEPT_MAX = 1_000


class SharedReads:
    """Keeps the reads of the last `kept_s`."""

    def __init__(self, kept_s: float = SHARED_S) -> None:
        self._reads: TTLCache[Hashable, asyncio.Task[Any]] = TTLCache(KEPT_MAX, kept_s)

    async def get[Value](self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """Returns the value of this key, read now or up to `kept_s` ago."""
        task = self._reads.get(key)
        if task is None or (task.done() and _failed(task)):
            task = self._reads[key] = shared_work.begin(_read(read))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends the reads that are in progress."""
        reads = list(self._reads.values())
        for each in reads:
            each.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


async def _read[Value](read: Callable[[], Awaitable[Value]]) -> Value:
    return await read()


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None

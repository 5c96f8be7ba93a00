"""Shares what people look at for a moment, so that many open pages cost little more than one.

A value is read at most once in `SHARED_S` for each key, and callers that come while it is read wait
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
    """Keeps the reads of the last moments."""

    def __init__(self) -> None:
        self._reads: TTLCache[Hashable, asyncio.Task[Any]] = TTLCache(KEPT_MAX, SHARED_S)

    async def get[Value](self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """Returns the value of this key, read now or up to `SHARED_S` ago."""
        task = self._reads.get(key)
        if task is None or (task.done() and _failed(task)):
            task = self._reads[key] = shared_work.begin(_read(read))
        return await asyncio.shield(task)


async def _read[Value](read: Callable[[], Awaitable[Value]]) -> Value:
    return await read()


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None

"""Shares reads for a while, so that many open pages, or scrapes, cost little more than one.

For each key at most one read is in progress, and callers that come meanwhile wait for it. Its value
is kept for a while after it. A failed read is not kept.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any

from cachetools import TTLCache

from firmtrail.database import shared_work

SHARED_S = 2
KEPT_MAX = 1_000


class SharedReads:
    """Keeps the values of the reads that ended in the last `kept_s`."""

    def __init__(self, kept_s: float = SHARED_S) -> None:
        self._kept: TTLCache[Hashable, Any] = TTLCache(KEPT_MAX, kept_s)
        self._running: dict[Hashable, asyncio.Task[Any]] = {}

    async def get[Value](self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """Returns the value of this key, by a read that ended up to `kept_s` ago, or ends now."""
        try:
            kept: Value = self._kept[key]
        except KeyError:
            if key not in self._running:
                self._running[key] = task = shared_work.begin(partial(self._read, key, read))
                task.add_done_callback(lambda _: self._running.pop(key))
            return await shared_work.result_of(self._running[key])
        return kept

    async def close(self) -> None:
        """Ends the reads that are in progress."""
        reads = list(self._running.values())
        for each in reads:
            each.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    async def _read[Value](self, key: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        value = self._kept[key] = await read()
        return value

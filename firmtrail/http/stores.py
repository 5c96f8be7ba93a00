"""Checks whether the stores outside the database, of checkpoints and artifacts, can be reached.

Each scrape asks, but a store is checked at most every `CACHED_S`, because checking a bucket costs a
request. Neither store makes a server unready: without them it serves everything else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from firmtrail.artifacts import Artifacts
from firmtrail.database.database import Unavailable
from firmtrail.http.shared_reads import SharedReads
from firmtrail.publishing.checkpoint_store import BadStore
from firmtrail.publishing.publisher import Publisher

CACHED_S = 60.0
TIMEOUT_S = 2.0


class Stores:
    """Checks the stores of one process, and caches the results."""

    def __init__(self, publisher: Publisher | None, artifacts: Artifacts | None) -> None:
        self._publisher = publisher
        self._artifacts = artifacts
        self._checks = SharedReads(CACHED_S)

    async def checkpoints(self) -> bool | None:
        """Returns whether checkpoints can be read and written; None if none are published."""
        return await self._is_up(self._publisher.check_store) if self._publisher else None

    async def artifacts(self) -> bool | None:
        """Returns whether artifacts can be written; None if there is no store for them."""
        return await self._is_up(self._artifacts.check) if self._artifacts else None

    async def _is_up(self, check: Callable[[], Awaitable[None]]) -> bool:
        return await self._checks.get(check, partial(_passes, check))


async def _passes(check: Callable[[], Awaitable[None]]) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await check()
    except (Unavailable, OSError, BadStore):  # a TimeoutError is an OSError
        return False
    return True

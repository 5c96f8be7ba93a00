"""Checks whether the stores outside the database, of checkpoints and artifacts, can be reached.

Each scrape asks, but a store is checked at most every `CACHED_S`, because checking a bucket costs a
request. Neither store makes a server unready: without them it serves everything else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from firmtrail.artifacts import Artifacts
from firmtrail.database.database import Unavailable
from firmtrail.publishing.checkpoint_store import BadStore
from firmtrail.publishing.publisher import Publisher

CACHED_S = 60.0
TIMEOUT_S = 2.0


class Stores:
    """Checks the stores of one process."""

    def __init__(self, publisher: Publisher | None, artifacts: Artifacts | None) -> None:
        self._checkpoints = _CachedCheck(publisher.check_store) if publisher else None
        self._artifacts = _CachedCheck(artifacts.check) if artifacts else None

    async def checkpoints(self) -> bool | None:
        """Returns whether checkpoints can be read and written; None if none are published."""
        return await self._checkpoints.is_up() if self._checkpoints else None

    async def artifacts(self) -> bool | None:
        """Returns whether artifacts can be written; None if there is no store for them."""
        return await self._artifacts.is_up() if self._artifacts else None


class _CachedCheck:
    """Checks one store, and caches the result."""

    def __init__(self, check: Callable[[], Awaitable[None]]) -> None:
        self._check = check
        self._was_up = False
        self._expires_at_s = 0.0

    async def is_up(self) -> bool:
        if time.monotonic() >= self._expires_at_s:
            self._expires_at_s = time.monotonic() + CACHED_S
            self._was_up = await self._is_up()
        return self._was_up

    async def _is_up(self) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._check()
        except (Unavailable, OSError, BadStore):  # a TimeoutError is an OSError
            return False
        return True

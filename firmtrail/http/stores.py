"""Finds out whether published checkpoints and artifacts, outside the database, can be reached.

Each scrape asks, and a store is looked at no more often than every `KEPT_S`, because a look at a
bucket costs a request. Neither makes a server unready: without them it serves everything else.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from firmtrail.artifacts import Artifacts
from firmtrail.database.database import Unavailable
from firmtrail.publishing.checkpoint_store import BadStore
from firmtrail.publishing.publisher import Publisher

KEPT_S = 60.0
TIMEOUT_S = 2.0


class Stores:
    """The stores of one process."""

    def __init__(self, publisher: Publisher | None, artifacts: Artifacts | None) -> None:
        self._checkpoints = _Look(publisher.check_store) if publisher else None
        self._artifacts = _Look(artifacts.check) if artifacts else None

    async def checkpoints(self) -> bool | None:
        """Whether checkpoints can be read and written; None: none are published."""
        return await self._checkpoints.is_up() if self._checkpoints else None

    async def artifacts(self) -> bool | None:
        """Whether artifacts can be written; None: there is no place for them."""
        return await self._artifacts.is_up() if self._artifacts else None


class _Look:
    """One store, and what was found of it last."""

    def __init__(self, look: Callable[[], Awaitable[None]]) -> None:
        self._look = look
        self._found = False
        self._until_s = 0.0

    async def is_up(self) -> bool:
        if time.monotonic() >= self._until_s:
            self._until_s = time.monotonic() + KEPT_S
            self._found = await self._is_up()
        return self._found

    async def _is_up(self) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._look()
        except (Unavailable, OSError, BadStore):  # a TimeoutError is an OSError
            return False
        return True

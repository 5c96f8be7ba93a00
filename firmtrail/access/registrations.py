"""Limits how fast devices that nobody registered may join: a flood of names costs one event each.

The counts belong to one process and end with it. The log bounds the number: a token registers no
more devices than it may (`tokens.take_places`).
"""

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from firmtrail.access.hashing import TooManyAttempts

PER_TOKEN = RateLimitItemPerMinute(1_000)
PER_NETWORK = RateLimitItemPerMinute(60)
"""Limits the devices that join on their own, without a token, from one network."""
PER_PROJECT = RateLimitItemPerMinute(600)
"""Limits the devices that join a project on their own."""


class RegistrationLimits:
    """Counts the devices that joined within a minute, and the keys that were offered."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def of_token(self, token_id: str, devices: int = 1) -> None:
        """Counts devices that a token names. Raises `TooManyAttempts` past the limit."""
        await self._hit(PER_TOKEN, devices, token_id)

    async def of_network(self, project: str, network: str) -> None:
        """Counts a device that joins on its own. Raises `TooManyAttempts` past a limit."""
        await self._hit(PER_NETWORK, 1, project, network)
        await self._hit(PER_PROJECT, 1, project)

    async def _hit(self, limit: RateLimitItem, cost: int, *counted: str) -> None:
        if not await self._limiter.hit(limit, *counted, cost=cost):
            raise TooManyAttempts

"""Is this the text whose bcrypt hash we keep? For passwords, and secrets that a person chose.

bcrypt is slow by design, so:

- it runs in a few threads; more than `WAITING_MAX` at once are turned away (`Unavailable`);
- failed attempts are counted, a device or e-mail and an address each, and past the limit nothing
  is hashed (`TooManyAttempts`). Counts are a process's own and forgotten with it;
- what was verified is remembered for an hour, under a keyed digest of the stored hash and the
  text: a changed or deleted hash is never met again, so nothing needs to be forgotten by hand.

What does not exist takes the same work as what is wrong: one hash, one failure counted.
"""

import asyncio
import hmac
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

import bcrypt
from cachetools import TTLCache
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from firmtrail.eventstore.database import Unavailable

THREADS = 2
WAITING_MAX = 64
REMEMBERED_MAX = 100_000
REMEMBERED_S = 3600
RETRY_AFTER_S = 60

COSTS = {"user": 12, "device": 10}
"""bcrypt's cost: 2^n rounds. A person waits 0.2 s, once; a fleet calls again and again."""

_NOBODYS_HASH = "FLFRSGf.qowyhUkeSotdzen8qz/ZVBm4dFK104TFbqcHU8wvcfnZK"
"""Salt and hash of a text that nobody knows."""

_PER_NAME = RateLimitItemPerMinute(20)
_PER_ADDRESS = RateLimitItemPerMinute(300)

type Kind = Literal["user", "device"]


class TooManyAttempts(Exception):
    """The limit of failed attempts is reached; nothing was looked at. Again in `retry_after_s`."""

    def __init__(self) -> None:
        super().__init__("too many failed attempts")
        self.retry_after_s = RETRY_AFTER_S


class Attempt(NamedTuple):
    """For whom a text is presented, and from where."""

    kind: Kind
    name: str
    """A device with its project, or an e-mail address."""
    address: str


class Hasher:
    """The threads, the counts and the memory of one process, until `close`."""

    def __init__(self, costs: dict[str, int] = COSTS) -> None:
        self._costs = costs
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="bcrypt")
        self._waiting = 0
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._key = secrets.token_bytes(32)
        self._remembered: TTLCache[bytes, bool] = TTLCache(REMEMBERED_MAX, REMEMBERED_S)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def hash(self, kind: Kind, text: str) -> str:
        """The form in which a weak credential is kept."""
        return await self._run(lambda: hash_text(text, self._costs[kind]))

    async def verify(self, attempt: Attempt, text: str, hashed: str | None) -> bool:
        """Whether `text` is what was hashed; None, for what does not exist, is matched by nothing.

        Attempts for one name take turns, so many at once can't get past the limit, and the same
        good text presented many times at once is hashed once.
        """
        stored = hashed or f"$2b${self._costs[attempt.kind]:02}${_NOBODYS_HASH}"
        memory = hmac.digest(self._key, _bytes(f"{stored} {text}"), "sha256")
        if memory in self._remembered:
            return True
        turn = self._turns.setdefault(f"{attempt.kind} {attempt.name}", asyncio.Lock())
        async with turn:
            if memory not in self._remembered:
                await self._check_limits(attempt)
                if not await self._run(lambda: matches(text, stored)) or hashed is None:
                    await self._count_failure(attempt)
                    return False
                self._remembered[memory] = True
            return True

    def close(self) -> None:
        """Ends the threads; a hash that is being computed is waited for."""
        self._pool.shutdown(cancel_futures=True)

    async def _check_limits(self, attempt: Attempt) -> None:
        if not (
            await self._limiter.test(_PER_NAME, attempt.kind, attempt.name)
            and await self._limiter.test(_PER_ADDRESS, attempt.address)
        ):
            raise TooManyAttempts

    async def _count_failure(self, attempt: Attempt) -> None:
        await self._limiter.hit(_PER_NAME, attempt.kind, attempt.name)
        await self._limiter.hit(_PER_ADDRESS, attempt.address)

    async def _run[T](self, function: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Unavailable("too many passwords and weak secrets are being checked")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function)
        finally:
            self._waiting -= 1


def hash_text(text: str, cost: int) -> str:
    return bcrypt.hashpw(_prepared(text), bcrypt.gensalt(cost)).decode()


def matches(text: str, hashed: str) -> bool:
    return bcrypt.checkpw(_prepared(text), hashed.encode())


def _prepared(text: str) -> bytes:
    """bcrypt takes at most 72 bytes and ends at a NUL; of any text this is 44 plain characters."""
    return b64encode(sha256(_bytes(text)).digest())


def _bytes(text: str) -> bytes:
    """aiohttp reads headers so that bytes which are no UTF-8 become surrogates."""
    return text.encode(errors="surrogateescape")

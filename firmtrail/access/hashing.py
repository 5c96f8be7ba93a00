"""Checks passwords, and device secrets that people chose, against their stored bcrypt hashes.

bcrypt is slow by design. Therefore:

- It runs in a few threads. Unauthenticated callers, operators and the operator's local commands
  each have threads of their own, so a caller that guesses never keeps an operator waiting. Full
  queues raise `Unavailable`.
- A verified text is remembered until it was unused for an hour, under a keyed digest of the stored
  hash and the text. A changed or deleted hash never matches again, so no entry has to be removed.
  The memory is asked before any limit, so guesses never lock out a remembered credential.
- Failed attempts are counted, and past a limit nothing is hashed (`TooManyAttempts`). Every count
  belongs to one address: an address can exhaust its own attempts only. A name that is attacked from
  many addresses is not locked; attempts for it are delayed. People and devices are counted
  separately. The counts belong to one process and end with it.

An unknown name takes the same work as a wrong text: one hash, one failure counted. A guess of a
strong text costs no hash. Such guesses are counted for each address too, but they never lock out a
valid text: it is looked up before anything is counted.
"""

import asyncio
import hmac
import secrets
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

import bcrypt
from cachetools import TTLCache
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from firmtrail.access import addresses
from firmtrail.database.database import Unavailable

THREADS = 2
WAITING_MAX = 64
WAITING_OF_ADDRESS_MAX = 32
WAITING_FOR_KNOWN = 16
"""How many of the places are reserved for addresses that verified a text in the last day."""
KNOWN_ADDRESSES_MAX = 10_000
KNOWN_ADDRESS_S = 24 * 3600
REMEMBERED_MAX = 100_000
REMEMBERED_S = 3600
RETRY_AFTER_S = 60
DELAY_S = 2.0
COUNTS_MAX = 50_000
"""Counts that a process keeps, for weak and for strong texts each, before it forgets them all."""

COSTS = {"user": 12, "device": 10}
"""bcrypt's cost: 2^n rounds. A person waits 0.2 s once; devices call again and again."""

_NOBODYS_HASH = "FLFRSGf.qowyhUkeSotdzen8qz/ZVBm4dFK104TFbqcHU8wvcfnZK"
"""The salt and hash of a text that nobody knows."""

_PER_NAME_AND_ADDRESS = RateLimitItemPerMinute(20)
_PER_ADDRESS = RateLimitItemPerMinute(300)
_DELAYED_NAME = RateLimitItemPerMinute(60)
"""Counts the attempts from all addresses together."""

type Kind = Literal["user", "device"]
type Lane = Literal["operators", "local"]
"""Names the threads for a new hash: for the API, or for the operator's commands on the socket."""


class TooManyAttempts(Exception):
    """Says that nothing was checked, because the limit of failed attempts is reached."""

    def __init__(self) -> None:
        super().__init__("too many failed attempts")
        self.retry_after_s = RETRY_AFTER_S


class CredentialAttempt(NamedTuple):
    """Names the user or device that a text is presented for, and the address it comes from."""

    kind: Kind
    name: str
    """PROJECT/DEVICE, or an e-mail address."""
    address: str

    @property
    def network(self) -> str:
        return addresses.network(self.address)


class Hasher:
    """Holds the threads, the counts and the memory of one process, until `close`."""

    def __init__(self, costs: dict[str, int] = COSTS) -> None:
        self._costs = costs
        self._unauthenticated = _Queue("unauthenticated")
        self._lanes = {lane: _Queue(lane) for lane in ("operators", "local")}
        self._weak, self._strong = _Counts(), _Counts()
        self.rejected = {"wrong": 0, "limited": 0}
        """Counts attempts with a wrong credential, and attempts past a limit."""
        self._key = secrets.token_bytes(32)
        self._remembered: TTLCache[bytes, bool] = TTLCache(REMEMBERED_MAX, REMEMBERED_S)
        self._known: TTLCache[str, bool] = TTLCache(KNOWN_ADDRESSES_MAX, KNOWN_ADDRESS_S)
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def hash(self, kind: Kind, text: str, lane: Lane = "operators") -> str:
        """Returns the form in which a weak credential is stored."""
        return await self._lanes[lane].run(lambda: hash_text(text, self._costs[kind]))

    async def verify(self, attempt: CredentialAttempt, text: str, hashed: str | None) -> bool:
        """Returns whether `text` is the text that was hashed. No text matches None, which stands
        for a name that does not exist.

        Attempts for one name from one address take turns. So parallel attempts can't get past the
        limit, and a valid text that is presented many times in parallel is hashed once.
        """
        stored = hashed or f"$2b${self._costs[attempt.kind]:02}${_NOBODYS_HASH}"
        memory_key = hmac.digest(self._key, _bytes(f"{stored} {text}"), "sha256")
        if memory_key in self._remembered:
            self._remembered[memory_key] = True  # keeps a text that is in use for another hour
            return True
        lock = self._locks.setdefault((*attempt[:2], attempt.network), asyncio.Lock())
        async with lock:
            if memory_key not in self._remembered:
                await self._check_limits(attempt)
                if not await self._matches(attempt, text, stored) or hashed is None:
                    await self._count_failure(attempt)
                    return False
                self._remembered[memory_key] = True
                self._known[attempt.network] = True
            return True

    async def count_guess(self, kind: Kind, address: str) -> None:
        """Counts a strong text that belongs to nobody. Raises `TooManyAttempts` past the limit."""
        network = addresses.network(address)
        if not await self._strong.hit(_PER_ADDRESS, kind, network):
            self.rejected["limited"] += 1
            raise TooManyAttempts
        self.rejected["wrong"] += 1

    @property
    def waiting(self) -> int:
        """Returns the number of texts that wait for a hash, in all lanes."""
        return sum(each.waiting for each in (self._unauthenticated, *self._lanes.values()))

    def close(self) -> None:
        """Ends the threads, after the hashes that are being computed."""
        for queue in (self._unauthenticated, *self._lanes.values()):
            queue.close()

    async def _check_limits(self, attempt: CredentialAttempt) -> None:
        kind, name, _ = attempt
        if not (
            await self._weak.test(_PER_NAME_AND_ADDRESS, kind, name, attempt.network)
            and await self._weak.test(_PER_ADDRESS, kind, attempt.network)
        ):
            self.rejected["limited"] += 1
            raise TooManyAttempts
        if not await self._weak.test(_DELAYED_NAME, kind, name):
            await asyncio.sleep(DELAY_S)

    async def _count_failure(self, attempt: CredentialAttempt) -> None:
        kind, name, _ = attempt
        self.rejected["wrong"] += 1
        await self._weak.hit(_PER_NAME_AND_ADDRESS, kind, name, attempt.network)
        await self._weak.hit(_PER_ADDRESS, kind, attempt.network)
        await self._weak.hit(_DELAYED_NAME, kind, name)

    async def _matches(self, attempt: CredentialAttempt, text: str, stored: str) -> bool:
        network = attempt.network
        reserved = 0 if network in self._known else WAITING_FOR_KNOWN
        with self._unauthenticated.place_for(network, reserved):
            return await self._unauthenticated.run(lambda: matches(text, stored))


class _Queue:
    """Holds `THREADS` threads, and counts the callers that wait for them."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"bcrypt-{name}")
        self.waiting = 0
        self._waiting_of: Counter[str] = Counter()

    @contextmanager
    def place_for(self, network: str, reserved: int) -> Iterator[None]:
        """Counts a waiting caller of a network that may not use the `reserved` places. Raises
        `Unavailable` if the network has no place left, or the queue has none."""
        if (
            self._waiting_of[network] >= WAITING_OF_ADDRESS_MAX
            or self.waiting >= WAITING_MAX - reserved
        ):
            raise _too_many()
        self._waiting_of[network] += 1
        try:
            yield
        finally:
            self._waiting_of[network] -= 1
            if not self._waiting_of[network]:
                del self._waiting_of[network]

    async def run[T](self, function: Callable[[], T]) -> T:
        if self.waiting >= WAITING_MAX:
            raise _too_many()
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _too_many() -> Unavailable:
    return Unavailable("too many passwords and weak secrets are being checked")


class _Counts:
    """Counts attempts within a minute. When there are too many counts, it forgets them all."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    async def test(self, limit: RateLimitItem, *counted: str) -> bool:
        return await self._limiter.test(limit, *counted)

    async def hit(self, limit: RateLimitItem, *counted: str) -> bool:
        """Counts one more attempt; returns whether the limit allows it."""
        if len(self._storage.storage) >= COUNTS_MAX:
            await self._storage.reset()
        return await self._limiter.hit(limit, *counted)


def hash_text(text: str, cost: int) -> str:
    return bcrypt.hashpw(_prepared(text), bcrypt.gensalt(cost)).decode()


def matches(text: str, hashed: str) -> bool:
    return bcrypt.checkpw(_prepared(text), hashed.encode())


def _prepared(text: str) -> bytes:
    """Returns 44 plain characters: bcrypt reads at most 72 bytes, and stops at a NUL."""
    return b64encode(sha256(_bytes(text)).digest())


def _bytes(text: str) -> bytes:
    """Encodes a header's text: aiohttp decodes bytes that are not UTF-8 as surrogates."""
    return text.encode(errors="surrogateescape")

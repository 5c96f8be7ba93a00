"""Sends one message to a receiver and says what came of it.

A receiver has `TIMEOUT_S` to answer. At most `EXCERPT_BYTES` of its answer are read, and no
redirect is followed: its target was not checked, and an answer that is no 2xx is a failure.
"""

from collections.abc import Sequence
from time import monotonic, time
from typing import NamedTuple

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from firmtrail import __version__
from firmtrail.webhooks import signature
from firmtrail.webhooks.look_ups import LookUps
from firmtrail.webhooks.targets import (
    AllowedTargets,
    CheckedResolver,
    Target,
    TargetRefused,
    target_of,
)

TIMEOUT_S = 15
"""Limits a delivery, from the look-up of the host to the answer."""
EXCERPT_BYTES = 512
CONNECTIONS_MAX = 200
"""Limits the connections to receivers, for one process."""

GONE = 410
"""The status by which a receiver says that it wants nothing more."""

MEDIA = "application/cloudevents+json"


class Message(NamedTuple):
    """Holds an event as it is in the log, or a notice."""

    message_id: str
    """The same each time that it is sent."""
    type: str
    position: int | None
    """The position in the log that it is about; None: a test."""
    log: int
    """The log's number in its project."""
    body: bytes


class Outcome(NamedTuple):
    """Describes an attempt to send a message."""

    at_ms: int
    duration_ms: int
    status: int | None = None
    """None: there was no answer."""
    error: str | None = None
    """Says why it failed; None: the receiver has the message."""
    excerpt: str = ""
    """The beginning of the answer's body."""


class _Answer(NamedTuple):
    status: int
    excerpt: str


class Sender:
    """Sends messages for one process, until `close`."""

    def __init__(self, allowed: AllowedTargets) -> None:
        self.allowed = allowed
        self._look_ups = LookUps()
        self._sessions: dict[str, ClientSession] = {}

    async def send(self, url: str, message: Message, keys: Sequence[str]) -> Outcome:
        """Sends the message, signed with these secrets. It raises nothing of the receiver."""
        at_s, began_s = time(), monotonic()
        answer: _Answer | None = None
        try:
            answer = await self._answer(url, message, keys, int(at_s))
            error = _fault_of(answer.status)
        except TimeoutError:
            error = f"The receiver did not answer within {TIMEOUT_S} s."
        except (ClientError, OSError, ValueError) as failure:
            error = _reason(failure)
        duration_ms = int((monotonic() - began_s) * 1000)
        status, excerpt = answer or (None, "")
        return Outcome(int(at_s * 1000), duration_ms, status, error, excerpt)

    async def check(self, target: Target) -> None:
        """Looks a receiver up. Raises `TargetRefused` if it may not be reached, and OSError if it
        is not found."""
        await self._resolver(target.url.scheme).find(target.host)

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _answer(self, url: str, message: Message, keys: Sequence[str], at_s: int) -> _Answer:
        target = target_of(url)
        self.allowed.check_literal(target)  # aiohttp gives it to no resolver
        headers = {
            "Content-Type": MEDIA,
            "User-Agent": f"firmtrail/{__version__}",
            "Firmtrail-Log": str(message.log),
            **signature.headers(message.message_id, at_s, message.body, keys),
        }
        if message.position is not None:
            headers["Firmtrail-Position"] = str(message.position)
        sending = self._session(target.url.scheme).post(
            target.url, data=message.body, headers=headers, allow_redirects=False
        )
        async with sending as response:
            return _Answer(response.status, await _excerpt(response))

    def _session(self, scheme: str) -> ClientSession:
        """Returns the session of a scheme: which addresses are allowed depends on it."""
        if scheme not in self._sessions:
            connector = TCPConnector(
                resolver=self._resolver(scheme),
                limit=CONNECTIONS_MAX,
                use_dns_cache=False,
            )
            self._sessions[scheme] = ClientSession(
                connector=connector,
                timeout=ClientTimeout(total=TIMEOUT_S),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
            )
        return self._sessions[scheme]

    def _resolver(self, scheme: str) -> CheckedResolver:
        return CheckedResolver(self.allowed, self._look_ups, scheme)


async def _excerpt(response: ClientResponse) -> str:
    """Reads the beginning of the body. The connection of a longer one is closed."""
    read = b""
    while len(read) < EXCERPT_BYTES and (part := await response.content.read(EXCERPT_BYTES)):
        read += part
    if not response.content.at_eof():
        response.close()
    return read[:EXCERPT_BYTES].decode(errors="replace").replace("\0", " ")


def _fault_of(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"The receiver answered {status}: redirects are not followed."
    return f"The receiver answered {status}."


def _reason(failure: Exception) -> str:
    """Returns why there was no answer; a refusal of the target stands in the cause."""
    cause = failure.__cause__
    known = cause if isinstance(cause, TargetRefused) else failure
    return str(known)[:500] or type(known).__name__

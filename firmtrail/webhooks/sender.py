"""Sends one message to a receiver and says what came of it.

A receiver has `TIMEOUT_S` to answer. At most `EXCERPT_BYTES` of its answer are read, and no
redirect is followed: its target was not checked, and an answer that is no 2xx is a failure.

A receiver may be hostile. Its answer is read in parts so small that none occupies the event loop
for long, and a receiver that sends more than a few interim answers gets no further.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any, NamedTuple, override

from aiohttp import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.http import HttpProcessingError

from firmtrail import __version__
from firmtrail.webhooks import signature
from firmtrail.webhooks.look_ups import LookUps, TooManyLookUps
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

INTERIM_MAX = 10
"""Limits the interim answers (1xx) to one request. No receiver has a reason to send one."""
RECEIVE_BYTES = 8 * 1024
"""Limits what the kernel keeps of an answer (Linux takes twice as much), so the size of the parts
that are read."""

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
    retry_after_s: float = 0
    """How long the receiver asks not to be tried again; 0: it does not ask."""


class _Answer(NamedTuple):
    status: int
    excerpt: str
    retry_after_s: float


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
        status, excerpt, retry_after_s = answer or (None, "", 0)
        return Outcome(int(at_s * 1000), duration_ms, status, error, excerpt, retry_after_s)

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
            excerpt = await _excerpt(response)
        return _Answer(response.status, excerpt, retry_after_s(response.headers))

    def _session(self, scheme: str) -> ClientSession:
        """Returns the session of a scheme: which addresses are allowed depends on it."""
        if scheme not in self._sessions:
            connector = TCPConnector(
                resolver=self._resolver(scheme),
                limit=CONNECTIONS_MAX,
                use_dns_cache=False,
                socket_factory=_small_socket,
            )
            self._sessions[scheme] = ClientSession(
                connector=connector,
                response_class=_BoundedResponse,
                timeout=ClientTimeout(total=TIMEOUT_S),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
            )
        return self._sessions[scheme]

    def _resolver(self, scheme: str) -> CheckedResolver:
        return CheckedResolver(self.allowed, self._look_ups, scheme)


class _BoundedResponse(ClientResponse):
    """Reads an answer with at most `INTERIM_MAX` interim answers before it. aiohttp reads any
    number of them, and never yields to the event loop while there are more."""

    @override
    async def start(self, connection: Any) -> ClientResponse:
        protocol, count = connection.protocol, 0
        read = protocol.read

        async def read_next() -> Any:
            nonlocal count
            count += 1
            if count > INTERIM_MAX + 1:
                raise HttpProcessingError(message="more than a few interim answers (1xx)")
            return await read()

        protocol.read = read_next
        try:
            return await super().start(connection)
        finally:
            del protocol.read


def _small_socket(address: Any) -> socket.socket:
    """Makes a socket that is received from in small parts."""
    family, kind, proto, *_ = address
    made = socket.socket(family, kind, proto)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return made


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Returns the seconds that Retry-After asks for (RFC 9110, 10.2.3); 0 if it asks for none."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:10])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # from a number that no date has
        return 0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


async def _excerpt(response: ClientResponse) -> str:
    """Reads the beginning of the body. If there is more of it, the connection is closed."""
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
    """Returns why there was no answer; a refusal of the target stands in the cause. It names no
    address and no path of the receiver."""
    match failure:
        case ClientConnectorDNSError(os_error=TargetRefused() | TooManyLookUps() as refused):
            reason = str(refused)
        case ClientConnectorDNSError(host=host):
            reason = f"The host {host} was not found."
        case ClientSSLError():
            reason = str(failure)
        case ClientConnectorError(host=host, port=port, os_error=OSError(errno=int(number))):
            reason = f"There was no connection to {host}:{port}: {os.strerror(number)}."
        case ClientResponseError(message=message):
            reason = f"The answer can't be read: {message}"
        case _:
            reason = str(failure)
    return reason[:500] or type(failure).__name__

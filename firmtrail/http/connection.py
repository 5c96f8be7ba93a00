"""Looks after connections: who may have one, for how long, and what is answered outside routes.

Bytes that are no HTTP, a target that is no path, an expectation that nobody knows: aiohttp answers
these on its own, in plain text. Here they become problems like every other refusal. A connection
is admitted by the gate, even before a TLS handshake, and is cut if no whole request head arrives
in `HEAD_S`, counted from its acceptance and from the first byte of each further head, or if its
client takes no answer in `WRITE_S`. aiohttp offers no setting for any of this, so its connection,
its server and its runner are each extended by some methods.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any, cast, override

import structlog
import uuid_utils
from aiohttp import HttpVersion11, hdrs, http_exceptions, web
from aiohttp.streams import EMPTY_PAYLOAD

from firmtrail.http import errors, origin
from firmtrail.http.clients import IS_AUTHENTICATED, Clients
from firmtrail.http.errors import BadRequest, ExpectationFailed, NotFound, Problem, RequestInfo
from firmtrail.http.gate import HEAD_S, Admission, ConnectionStage, Gate, bounds
from firmtrail.http.incoming import CONTINUED
from firmtrail.http.metrics import Metrics

UNSENT_LINGER_S = 1
"""How long a body is awaited that its sender was not let send: some send it all the same."""
WRITE_S = 60
"""In which a client has to take an answer that is sent whole."""
SENT_EASILY_BYTES = 32 * 1024
"""An answer of at most so many bytes fits into the buffers of a connection that takes any."""

HEAD_END = b"\r\n\r\n"

_log = structlog.get_logger("firmtrail.http")

type Finished = tuple[web.StreamResponse, bool]


class HttpRunner(web.AppRunner):
    """Runs an application whose every refusal is a problem; with `tls`, over TLS.

    The TLS context is given here and not to the sites: so a connection is bounded while it shakes
    hands. Connections over a unix socket are plain in any case.
    """

    __slots__ = ("_clients", "_gate", "_tls")

    def __init__(
        self,
        app: web.Application,
        *,
        gate: Gate | None = None,
        clients: Clients | None = None,
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._clients = clients or Clients()
        self._gate = gate or Gate(bounds(), self._clients, Metrics())
        self._tls = tls

    def end_soon(self) -> None:
        """Let `cleanup` wait for no request that is still being answered."""
        self._shutdown_timeout = 0

    @override
    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)
        server.gate, server.clients, server.tls = self._gate, self._clients, self._tls
        return server


class _Server(web.Server):
    gate: Gate
    clients: Clients
    tls: ssl.SSLContext | None

    @override
    def __call__(self) -> Any:
        return self.connection() if self.tls is None else _Handshake(self, self.tls)

    def connection(self) -> "_Connection":
        return _Connection(self, loop=self._loop, **self._kwargs)

    @override
    async def shutdown(self, timeout: float | None = None) -> None:
        self.gate.close()
        await super().shutdown(timeout)


class _Handshake(asyncio.Protocol):
    """A connection until TLS is agreed on: it has a place, and only so long for it."""

    def __init__(self, server: _Server, tls: ssl.SSLContext) -> None:
        self._server = server
        self._tls = tls
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._pass: Admission | None = None
        self._early = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)  # uvloop's transports are of no class of asyncio
        if isinstance(plain.get_extra_info("sockname"), str):
            connection = self._server.connection()
            plain.set_protocol(connection)
            connection.connection_made(plain)
            return
        self._transport = plain
        self._pass = self._server.gate.admit(self, plain)
        if self._pass is None:
            plain.abort()
            return
        # Started here and not later: the first bytes must find the protocol of TLS in its place.
        loop = asyncio.get_running_loop()
        self._task = asyncio.Task(self._shake_hands(plain), loop=loop, eager_start=True)

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        loop, connection = asyncio.get_running_loop(), self._server.connection()
        assert self._pass is not None
        try:
            secured = await loop.start_tls(
                transport,
                self,
                self._tls,
                server_side=True,
                ssl_handshake_timeout=HEAD_S,
                ssl_shutdown_timeout=HEAD_S,
            )
        except (OSError, ssl.SSLError):
            self._end()
            return
        if secured is None or transport.is_closing():
            self._end()
            return
        secured.set_protocol(connection)
        connection.take(self._pass)
        connection.connection_made(secured)
        if self._early:
            connection.data_received(bytes(self._early))

    def _end(self) -> None:
        if self._pass is not None:
            self._server.gate.forget(self._pass)
        if self._transport is not None:
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        """Keeps what the client sends together with the end of the handshake."""
        self._early += data

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        if self._pass is not None:
            self._server.gate.forget(self._pass)

    def stage(self) -> ConnectionStage:
        return ConnectionStage.HEAD

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()


class _Connection(web.RequestHandler):
    __slots__ = ("_clients", "_gate", "_late", "_pass")

    def __init__(self, manager: _Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gate = manager.gate
        self._clients = manager.clients
        self._pass: Admission | None = None
        self._late: asyncio.TimerHandle | None = None

    def take(self, admitted: Admission) -> None:
        """Takes the place that the connection had during its handshake."""
        self._pass = admitted
        admitted.holder = self

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pass = self._pass or self._gate.admit(self, transport)
        if self._pass is None:
            cast(asyncio.Transport, transport).abort()
            return
        super().connection_made(transport)
        self._wait_for_head()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        if self._pass is not None:
            self._gate.forget(self._pass)
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Reads, and notes whether the beginning of a head is left."""
        heads, may_begin = self._request_count, self._may_begin_head()
        super().data_received(data)
        if self._request_count == heads:
            if data and self._late is None and may_begin:
                self._wait_for_head()
            return
        self._stop_waiting()
        if self._pass is not None:
            self._gate.has_asked(self._pass)
        if (
            self._messages
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and not data.endswith(HEAD_END)
        ):
            self._wait_for_head()

    def stage(self) -> ConnectionStage:
        """Says what the connection does; see `gate`."""
        if self._waiter is not None and not self._waiter.done():
            return ConnectionStage.IDLE if self._request_count else ConnectionStage.HEAD
        request = self._current_request
        is_slow = self._paused or request is None or self._is_sending_body()
        if is_slow and (request is None or IS_AUTHENTICATED not in request):
            return ConnectionStage.UNKNOWN
        return ConnectionStage.AT_WORK

    def cut(self) -> None:
        """Breaks the connection; nothing is sent, and its request, if any, sees it as lost."""
        if self.transport is not None:
            self.transport.abort()

    def _may_begin_head(self) -> bool:
        """Says whether the next bytes are of a head: the connection is idle, or what is at work
        has its whole body. In doubt they are of a body, whose reader limits its time."""
        if self._waiter is not None and not self._waiter.done():
            return True
        return bool(self._current_request and not self._messages and not self._is_sending_body())

    def _is_sending_body(self) -> bool:
        request = self._current_request
        return request is not None and not request.content.is_eof()

    def _wait_for_head(self) -> None:
        self._late = self._loop.call_later(HEAD_S, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._late = None
        if self._waiter is not None and not self._waiter.done():
            self._gate.note_late()
            self.cut()
        elif self._pass is not None:  # a request is at work: the rest may come after its answer
            self._wait_for_head()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers what could not be parsed, and what escaped from an endpoint, with its problem."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer had begun already")
        answer = _refused(exc or TimeoutError(), request, self._clients)
        answer.force_close()
        return answer

    @override
    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, Finished]:
        """Sends an answer; one that aiohttp's router made, as the problem that it means."""
        answer = resp
        if isinstance(resp, web.HTTPException):
            answer = _refused(resp, request, self._clients)
        if hdrs.EXPECT in request.headers and _holds_back(request):
            answer.force_close()  # what comes next could be the body, or another request
            self._lingering_time = UNSENT_LINGER_S
        finishing = super().finish_response(request, answer, start_time)
        if self._paused or (answer.content_length or 0) > SENT_EASILY_BYTES:
            return self._in_time(finishing)
        return finishing

    async def _in_time(self, finishing: Coroutine[Any, Any, Finished]) -> Finished:
        try:
            async with asyncio.timeout(WRITE_S):
                return await finishing
        except TimeoutError:
            self.cut()
            raise ConnectionAbortedError("the client did not take its answer") from None


def _holds_back(request: web.BaseRequest) -> bool:
    """Whether a client still waits for `100 Continue` with its body."""
    is_waiting = request.version >= HttpVersion11 and CONTINUED not in request
    return is_waiting and not request.content.is_eof()


def _refused(error: BaseException, request: web.BaseRequest, clients: Clients) -> web.Response:
    asked = RequestInfo(str(uuid_utils.uuid7()), clients.address(request))
    problem = _problem_of(error, asked)
    answer = errors.problem_response(problem, asked.request_id)
    answer.headers["X-Request-Id"] = asked.request_id
    origin.protect(answer.headers, clients.scheme(request))
    if problem.status < Problem.status:  # what is no refusal is logged already
        _log.info(
            "refused by the connection",
            status=problem.status,
            reason=problem.detail,
            **asked._asdict(),
        )
    return answer


def _problem_of(error: BaseException, asked: RequestInfo) -> Problem:
    match error:
        case http_exceptions.LineTooLong():
            return BadRequest("A line of the request's head is too long.")
        case http_exceptions.HttpProcessingError():
            return BadRequest("This is no HTTP request.")
        case web.HTTPNotFound():
            return NotFound()
        case web.HTTPExpectationFailed():
            return ExpectationFailed()
        case _:
            return errors.problem_of(error, asked)

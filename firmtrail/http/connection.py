"""Limits connections in time, and turns every refusal outside the routes into a problem.

Bytes that are not HTTP, a target that is not a path, an unknown expectation: aiohttp answers these
on its own, in plain text. Here they become problems like every other refusal. The gate admits a
connection, even before its TLS handshake. A connection is cut if no whole request head arrives
within `HEAD_S`, counted from its acceptance and from the first byte of each further head. It is
also cut if its client takes nothing of an answer within `WRITE_S`, whether it waits for the answer,
is idle or is being closed; the handler of a stream limits its own time. Over TLS, the transport
under it may still have unsent bytes after both sides have ended TLS: they count, too. aiohttp has
no settings for this, so a few methods extend its connection, its server and its runner.
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
from firmtrail.http.gate import HEAD_S, Admission, ConnectionStage, Gate
from firmtrail.http.incoming import CONTINUED
from firmtrail.http.whole_answer import Finished, is_easy, send

UNSENT_LINGER_S = 1
"""Limits the wait for a body that the server did not ask for: some clients send it anyway."""
WRITE_S = 60
"""Limits the time in which a client takes nothing of an answer that is sent whole."""
HEAD_END = b"\r\n\r\n"

_log = structlog.get_logger("firmtrail.http")


class HttpRunner(web.AppRunner):
    """Runs an application so that every refusal is a problem; with `tls`, over TLS.

    The TLS context belongs to the runner and not to the sites, so that a connection is limited
    during its handshake too. Connections over a unix socket are always plain.
    """

    __slots__ = ("_clients", "_gate", "_tls")

    def __init__(
        self,
        app: web.Application,
        *,
        gate: Gate,
        clients: Clients,
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._clients = clients
        self._gate = gate
        self._tls = tls

    def end_soon(self) -> None:
        """Makes `cleanup` wait for no request that is still being answered."""
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
    """Handles a connection until its TLS handshake is complete, within `HEAD_S`."""

    def __init__(self, server: _Server, tls: ssl.SSLContext) -> None:
        self._server = server
        self._tls = tls
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._admission: Admission | None = None
        self._early = bytearray()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit asyncio's
        if isinstance(plain.get_extra_info("sockname"), str):
            connection = self._server.connection()
            plain.set_protocol(connection)
            connection.connection_made(plain)
            return
        self._transport = plain
        self._admission = self._server.gate.admit(self, plain)
        if self._admission is None:
            plain.abort()
            return
        # It starts here and not later: the first bytes must meet the protocol of TLS.
        loop = asyncio.get_running_loop()
        self._task = asyncio.Task(self._shake_hands(plain), loop=loop, eager_start=True)

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        loop, connection = asyncio.get_running_loop(), self._server.connection()
        assert self._admission is not None
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
        connection.take(self._admission, transport)
        connection.connection_made(secured)
        if self._early:
            connection.data_received(bytes(self._early))

    def _end(self) -> None:
        if self._admission is not None:
            self._server.gate.forget(self._admission)
        if self._transport is not None:
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        """Keeps what the client sends together with the end of the handshake."""
        self._early += data

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        if self._admission is not None:
            self._server.gate.forget(self._admission)

    def stage(self) -> ConnectionStage:
        return ConnectionStage.HEAD

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()


class _Connection(web.RequestHandler):
    __slots__ = (
        *("_admission", "_clients", "_gate", "_late", "_lower", "_under_tls", "_unsent_bytes"),
        "_untaken",
    )

    def __init__(self, manager: _Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gate = manager.gate
        self._clients = manager.clients
        self._admission: Admission | None = None
        self._late: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._lower: asyncio.Transport | None = None
        """The transport until the connection is lost; aiohttp's own is None once it is closing."""
        self._under_tls: asyncio.Transport | None = None

    def take(self, admitted: Admission, under_tls: asyncio.Transport) -> None:
        """Takes over the admission that the connection had during its handshake, and the transport
        that carries its TLS."""
        self._admission, self._under_tls = admitted, under_tls
        admitted.holder = self

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._lower = cast(asyncio.Transport, transport)
        self._admission = self._admission or self._gate.admit(self, transport)
        if self._admission is None:
            self._lower.abort()
            return
        self._lower.set_write_buffer_limits(high=1)  # so writing is paused while bytes are unsent
        super().connection_made(transport)
        self._wait_for_head()

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        if self._admission is not None:
            self._gate.forget(self._admission)
        self._stop_waiting()
        self._stop_limiting()
        self._lower = self._under_tls = None
        super().connection_lost(exc)

    @override
    def eof_received(self) -> None:
        """Limits the time in which the client takes what is unsent: over TLS, it may fit into the
        transport under it, so that writing is never paused."""
        super().eof_received()
        self._limit_writing()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._limit_writing()

    @override
    def resume_writing(self) -> None:
        if self._lower is None or not self._lower.is_closing():
            self._stop_limiting()
        super().resume_writing()

    @override
    def resume_reading(self, resume_parser: bool = True) -> None:
        """Reads on if reading was paused. aiohttp asks for it with each body that is read."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    @override
    def data_received(self, data: bytes) -> None:
        """Reads the data, and starts or stops the limit for the next head."""
        heads = self._request_count
        begins_head = bool(data) and self._late is None and self._may_begin_head()
        super().data_received(data)
        if self._request_count == heads:
            if begins_head:
                self._wait_for_head()
            return
        self._stop_waiting()
        if self._admission is not None and heads == 0:
            self._gate.has_asked(self._admission)
        if (
            self._messages
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and not data.endswith(HEAD_END)
        ):
            self._wait_for_head()

    def stage(self) -> ConnectionStage:
        """Returns what the connection does; see `gate`."""
        if self._waiter is not None and not self._waiter.done():
            return ConnectionStage.IDLE if self._request_count else ConnectionStage.HEAD
        request = self._current_request
        is_slow = self._paused or request is None or not request.content.is_eof()
        if is_slow and (request is None or IS_AUTHENTICATED not in request):
            return ConnectionStage.UNKNOWN
        return ConnectionStage.AT_WORK

    def cut(self) -> None:
        """Breaks the connection: nothing more is sent, and a running request sees it as lost."""
        lower = self._under_tls or self._lower
        if lower is not None:
            lower.abort()

    def _may_begin_head(self) -> bool:
        """Returns whether the next bytes belong to a head: the connection is idle, or its request
        has its whole body. In doubt they belong to a body, whose reader limits its time."""
        if self._waiter is not None and not self._waiter.done():
            return True
        request = self._current_request
        return request is not None and not self._messages and request.content.is_eof()

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
        elif (
            self._admission is not None
        ):  # a request is running: the rest may come after its answer
            self._wait_for_head()

    def _limit_writing(self) -> None:
        self._stop_limiting()
        self._unsent_bytes = self._count_unsent()
        self._untaken = self._loop.call_later(WRITE_S, self._check_writing)

    def _count_unsent(self) -> int:
        """Counts the bytes that wait in the transports. That of TLS counts none once it closes."""
        assert self._lower is not None
        if self._under_tls is None:
            return self._lower.get_write_buffer_size()
        of_tls = 0 if self._lower.is_closing() else self._lower.get_write_buffer_size()
        return of_tls + self._under_tls.get_write_buffer_size()

    def _stop_limiting(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def _check_writing(self) -> None:
        """Cuts the connection if its client has taken nothing. While a handler runs, it limits its
        own time; the answers before its own are limited again afterwards."""
        has_taken = self._count_unsent() < self._unsent_bytes
        if has_taken or self._current_request is not None:
            self._limit_writing()
        else:
            self.cut()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answers with a problem if bytes could not be parsed or an endpoint let an error out."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has already begun")
        answer = _refused(exc or TimeoutError(), request, self._clients)
        answer.force_close()
        return answer

    @override
    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, Finished]:
        """Sends an answer; an answer of aiohttp's router is sent as the problem that it means."""
        answer = resp
        if isinstance(resp, Exception):  # a web.HTTPException, whose own test is slow
            answer = _refused(resp, request, self._clients)
        if hdrs.EXPECT in request.headers and _holds_back(request):
            answer.force_close()  # the next bytes could be the body, or another request
            self._lingering_time = UNSENT_LINGER_S
        elif not (self._paused or self._upgraded) and is_easy(answer, request):
            return send(answer, request)
        if self._paused:
            return self._finish_in_turn(request, answer, start_time)
        return super().finish_response(request, answer, start_time)

    async def _finish_in_turn(
        self, request: web.BaseRequest, answer: web.StreamResponse, start_time: float | None
    ) -> Finished:
        """Sends an answer once the client has taken the answers before it."""
        await self._drain_helper()
        return await super().finish_response(request, answer, start_time)


def _holds_back(request: web.BaseRequest) -> bool:
    """Returns whether a client has not sent its body because it waits for `100 Continue`."""
    is_waiting = request.version >= HttpVersion11 and CONTINUED not in request
    return is_waiting and not request.content.is_eof()


def _refused(error: BaseException, request: web.BaseRequest, clients: Clients) -> web.Response:
    info = RequestInfo(str(uuid_utils.uuid7()), clients.address(request))
    problem = _problem_of(error, info)
    answer = errors.problem_response(problem, info.request_id)
    answer.headers["X-Request-Id"] = info.request_id
    origin.protect(answer.headers, clients.scheme(request))
    if problem.status < Problem.status:  # a failure of the server was logged where it was mapped
        _log.info(
            "refused by the connection",
            status=problem.status,
            reason=problem.detail,
            **info._asdict(),
        )
    return answer


def _problem_of(error: BaseException, info: RequestInfo) -> Problem:
    match error:
        case http_exceptions.LineTooLong():
            return BadRequest("A line of the request's head is too long.")
        case http_exceptions.HttpProcessingError():
            return BadRequest("The request is not valid HTTP.")
        case web.HTTPNotFound():
            return NotFound()
        case web.HTTPExpectationFailed():
            return ExpectationFailed()
        case _:
            return errors.problem_of(error, info)

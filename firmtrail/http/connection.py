"""What is answered to what never reaches a route?

Bytes that are no HTTP, a target that is no path, an expectation that nobody knows: aiohttp answers
these by itself, in plain text. Here they become problems like every other refusal. It offers no
setting for that, so its connection, its server and its runner are each extended by a method.
"""

from collections.abc import Coroutine
from typing import Any

import structlog
import uuid_utils
from aiohttp import http_exceptions, web

from firmtrail.http import errors
from firmtrail.http.errors import BadRequest, ExpectationFailed, NotFound, Problem

_log = structlog.get_logger("firmtrail.http")


class Runner(web.AppRunner):
    """Runs an application whose every refusal is a problem."""

    def end_soon(self) -> None:
        """Let `cleanup` wait for no request that is still being answered."""
        self._shutdown_timeout = 0

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(made.request_handler, request_factory=made.request_factory, **self._kwargs)


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 (of the method that this one replaces)
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 (as status)
    ) -> web.StreamResponse:
        """Answers what could not be parsed, and what escaped from an endpoint, with its problem."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer had begun already")
        answer = _refused(request, exc or TimeoutError())
        answer.force_close()
        return answer

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Sends an answer; one that aiohttp's router made, as the problem that it means."""
        answer = _refused(request, resp) if isinstance(resp, web.HTTPException) else resp
        return super().finish_response(request, answer, start_time)


def _refused(request: web.BaseRequest, error: BaseException) -> web.Response:
    request_id = str(uuid_utils.uuid7())
    problem = _problem_of(error, request_id)
    answer = errors.response(problem, request_id)
    answer.headers["X-Request-Id"] = request_id
    if problem.status < Problem.status:  # what is no refusal is logged already
        _log.info(
            "refused by the connection",
            status=problem.status,
            reason=problem.detail,
            remote=request.remote,
            request_id=request_id,
        )
    return answer


def _problem_of(error: BaseException, request_id: str) -> Problem:
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
            return errors.problem_of(error, request_id)

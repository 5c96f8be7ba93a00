"""What a failed request is answered: one shape, and the one mapping from errors to it.

A problem is RFC 9457's `application/problem+json`. An error says what its caller should do: fix the
request (4xx), accept a rule's no (409), or try again later (408, 429, 503 with Retry-After).
Anything that no one expected is logged once with its request id and answered as 500 without
detail; a stack trace never leaves the server.
"""

from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta

from firmtrail.access import TooManyAttempts
from firmtrail.database.database import AppendRefused, Unavailable
from firmtrail.http.clients import address_of
from firmtrail.publishing.minimum_sizes import LogRefused
from firmtrail.recording.commit import ClockAhead
from firmtrail.repeats import Repeats
from firmtrail.rules.device import Refused

FAULTS_MAX = 100
PROBLEM_MEDIA_TYPE = "application/problem+json"

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="firmtrail", Basic realm="firmtrail"'}
"""Of every 401 (RFC 9110, 11.6.1). Some plain tools send what a URL carries only to who asks."""

STREAM = web.RequestKey("stream", web.StreamResponse)
"""The answer that a handler has begun to stream, if any."""

_log = structlog.get_logger("firmtrail.http")
_repeats = Repeats()


class RequestInfo(NamedTuple):
    """A request, as log lines name it."""

    request_id: str
    address: str
    """The client's."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing wrong with a request: where, and what would be right."""

    reason: str
    pointer: (
        Annotated[str, Meta(description="to what is wrong in the body: a JSON pointer, RFC 6901")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    parameter: (
        Annotated[str, Meta(description="which parameter of the query is wrong")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class ProblemBody(msgspec.Struct, frozen=True):
    """RFC 9457, with a stable `code`, the request's id and all faults of its body."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: Sequence[Fault]


class Problem(Exception):
    """The request is answered with this status and nothing was done."""

    status: ClassVar[int] = 500
    code = "internal"
    detail = "Something went wrong here; it has been noted."

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str | None = None,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail or self.detail
        self.code = code or self.code
        self.faults = faults
        self.headers = dict(headers or {})


class BadRequest(Problem):
    """Not readable as what it says it is."""

    status = 400
    code = "malformed"


class Unauthorized(Problem):
    """No credential, or one that is not good: one face for every reason."""

    status = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__(
            "A valid credential is needed.",
            headers=CHALLENGE,
        )


class Forbidden(Problem):
    """The credential is good, its role too low."""

    status = 403
    code = "forbidden"
    detail = "The caller's role does not allow this."


class NotFound(Problem):
    """There is none, or it is another project's."""

    status = 404
    code = "not_found"
    detail = "There is nothing here."


class MethodNotAllowed(Problem):
    """The path takes other methods."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(Problem):
    """The body did not arrive in time; the connection is closed."""

    status = 408
    code = "timeout"


class Conflict(Problem):
    """A rule says no."""

    status = 409
    code = "conflict"


class Gone(Problem):
    """It was here, and is no more to be had."""

    status = 410
    code = "gone"


class Stale(Problem):
    """If-Match names a state that is gone: read again, decide again."""

    status = 412
    code = "stale"


class TooLarge(Problem):
    """More than the route takes, counted after inflation."""

    status = 413
    code = "too_large"


class UnsupportedMediaType(Problem):
    """Not JSON, or in an encoding other than gzip."""

    status = 415
    code = "unsupported_media_type"


class RangeNotSatisfiable(Problem):
    """The range begins behind the end of what has so many bytes."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"There are {size_bytes} bytes.", headers={"Content-Range": f"bytes */{size_bytes}"}
        )


class ExpectationFailed(Problem):
    """Expect names something that nobody here knows."""

    status = 417
    code = "expectation_failed"
    detail = "Expect can be 100-continue."


class Invalid(Problem):
    """Readable, and wrong; every fault is named."""

    status = 422
    code = "invalid"


def invalid_parameter(name: str, reason: str) -> Invalid:
    """Returns the problem of one faulty parameter of the query."""
    return Invalid(f"{name}: {reason}", faults=[Fault(reason, parameter=name)])


class TooManyRequests(Problem):
    """Slow down; `retry_after_s` says for how long."""

    status = 429
    code = "too_many_requests"

    def __init__(self, retry_after_s: int, detail: str = "Too many attempts.") -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class ServiceUnavailable(Problem):
    """Nothing was recorded; the same request may be sent again."""

    status = 503
    code = "unavailable"

    def __init__(self, detail: str, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"Retry-After": str(max(1, retry_after_s))})


async def answer_or_problem(
    work: Awaitable[web.StreamResponse], request: web.Request, request_id: str
) -> web.StreamResponse:
    """What `work` answers, or the problem that its error means.

    An answer that had begun to stream can't become a problem: its connection is broken, so that
    the client sees no clean end.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 (the one place: an unknown error is a 500)
        asked = RequestInfo(request_id, address_of(request))
        problem = problem_of(error, asked)
        if STREAM in request:
            return _broken(request, error, asked)
        return problem_response(problem, request_id)


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """The problem as an answer; each status has one title."""
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(problem_body(problem, request_id)),
        content_type=PROBLEM_MEDIA_TYPE,
        headers=problem.headers | {"Cache-Control": "no-store"},
    )


def problem_body(problem: Problem, request_id: str) -> ProblemBody:
    """The problem as it is shown, also in the place of an item of an array."""
    return ProblemBody(
        type=f"urn:firmtrail:problem:{problem.code}",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        request_id=request_id,
        errors=problem.faults[:FAULTS_MAX],
    )


def problem_of(error: BaseException, asked: RequestInfo) -> Problem:
    """The problem that an error means."""
    match error:
        case Problem():
            return error
        case Refused():
            return refusal(error)
        case Unavailable():
            return _unavailable(error, asked)
        case TooManyAttempts():
            return TooManyRequests(error.retry_after_s)
        case web.RequestPayloadError() | web.HTTPBadRequest() | ConnectionError():
            # A ConnectionError is the client's hanging up: the database's are Unavailable.
            return BadRequest("The body broke off, or is not what its encoding says.")
        case _:
            _log.error("bug", exc_info=error, **asked._asdict())
            return Problem()


def _unavailable(error: Unavailable, asked: RequestInfo) -> Problem:
    """A log that takes no appends says why: only people can change that.

    Every request meets the same condition, so its line is written once a minute.
    """
    reason = str(error)
    condition = error.log if isinstance(error, LogRefused) else reason
    if (left_out := _repeats.due(condition)) is not None:
        _log.warning("unavailable", reason=reason, left_out=left_out, **asked._asdict())
    if isinstance(error, AppendRefused | LogRefused):
        return ServiceUnavailable(str(error), error.retry_after_s, "log_refused")
    detail = reason if isinstance(error, ClockAhead) else "The service can't do this now."
    return ServiceUnavailable(detail, error.retry_after_s)


_STATUSES: Mapping[int, type[Problem]] = {
    kind.status: kind for kind in (Conflict, NotFound, Forbidden, Stale)
}


def refusal(refused: Refused) -> Problem:
    """A rule's no, with its own status and code."""
    if refused.status == Invalid.status:
        faults = [Fault(refused.detail, pointer=f"/{refused.member}")] if refused.member else []
        return Invalid(refused.detail, code=refused.code, faults=faults)
    return _STATUSES.get(refused.status, Conflict)(refused.detail, code=refused.code)


def _broken(request: web.Request, error: Exception, asked: RequestInfo) -> web.StreamResponse:
    """The begun answer, on a connection that can't end it cleanly any more."""
    reason = str(error) if isinstance(error, Unavailable) else type(error).__name__
    _log.warning("stream broken", reason=reason, **asked._asdict())
    if request.transport is not None:
        request.transport.abort()
    return request[STREAM]

"""Defines the problem that a failed request is answered with, and maps errors to problems.

A problem has one shape: RFC 9457's `application/problem+json`. Its status shows what the client
should do: fix the request (4xx), accept that a rule refuses it (409), or try again later (408, 429,
503 with Retry-After). This is the only place that maps errors. An unexpected error is logged once
with its request id and answered with 500 without detail; a stack trace never leaves the server.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, ClassVar, NamedTuple

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta

from firmtrail.access.hashing import TooManyAttempts
from firmtrail.database.database import AppendRefused, Unavailable
from firmtrail.database.stubs import EntriesAway, NoArchive
from firmtrail.http.clients import address_of
from firmtrail.publishing.minimum_sizes import LogRefused
from firmtrail.recording.commit import ClockAhead
from firmtrail.repeats import Repeats
from firmtrail.rules.device import Refused

FAULTS_MAX = 100
PROBLEM_MEDIA_TYPE = "application/problem+json"

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="firmtrail", Basic realm="firmtrail"'}
"""Goes with every 401 (RFC 9110, 11.6.1). Some simple tools send the credential that a URL carries
only after this challenge."""

STREAM = web.RequestKey("stream", web.StreamResponse)
"""Holds the answer that a handler has begun to stream, if any."""

GRANTED = web.RequestKey("granted", bool)
"""Marks a download that was granted. Its client counts any error status as a failed update, but
continues a download whose connection breaks: so a fault of the service breaks the connection."""

_log = structlog.get_logger("firmtrail.http")
_repeats = Repeats()


class RequestInfo(NamedTuple):
    """Identifies a request in log lines."""

    request_id: str
    address: str


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Names one thing that is wrong with a request: where it is, and what would be right."""

    reason: str
    pointer: (
        Annotated[str, Meta(description="the faulty part of the body: a JSON pointer, RFC 6901")]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    parameter: (
        Annotated[str, Meta(description="the name of the faulty parameter of the query")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class ProblemBody(msgspec.Struct, frozen=True):
    """Holds RFC 9457's members, a stable `code`, the request's id and all faults of its body."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: Sequence[Fault]


class Problem(Exception):
    """Answers the request with this status; nothing was done. Without a mapping of its own, an
    error becomes status 500."""

    status: ClassVar[int] = 500
    code = "internal"
    detail = "The server failed to answer this request. The failure was logged with the request id."

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


class SignIn(Problem):
    """Sends a person without a session to the page where they sign in."""

    status = 303
    code = "sign_in"
    detail = "Sign in first."

    def __init__(self, location: str) -> None:
        super().__init__(headers={"Location": location})


class ProjectMoved(Problem):
    """Sends a caller of the project on to the address where it is served."""

    status = 308
    code = "project_moved"
    detail = "The project was moved. Send this request, and all later ones, to the new address."

    def __init__(self, detail: str, location: str) -> None:
        super().__init__(detail, headers={"Location": location})


class FragmentSignIn(Problem):
    """Makes htmx load the page where a person signs in, instead of a part of a page (htmx.org,
    HX-Redirect)."""

    status = 401
    code = "sign_in"
    detail = "The session has ended. Sign in again."

    def __init__(self, location: str) -> None:
        super().__init__(headers={"HX-Redirect": location})


class BadRequest(Problem):
    """Refuses a request that cannot be read as the type that it declares."""

    status = 400
    code = "malformed"


class Unauthorized(Problem):
    """Refuses a request without a valid credential; the answer is the same for every reason."""

    status = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__(
            "This request needs a valid credential, as a Bearer token or a Basic password.",
            headers=CHALLENGE,
        )


class Forbidden(Problem):
    """Refuses a valid credential whose role does not allow the request."""

    status = 403
    code = "forbidden"
    detail = "The caller's role does not allow this."


class NotFound(Problem):
    """Reports that there is no such thing, or that it belongs to another project."""

    status = 404
    code = "not_found"
    detail = "There is nothing here."


class MethodNotAllowed(Problem):
    """Refuses a method that the path does not take."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(Problem):
    """Reports that the body did not arrive in time; the connection is closed."""

    status = 408
    code = "timeout"


class CodedProblem(Problem):
    """Requires a code, because the status alone does not say what a client should do."""

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(detail, code=code)


class CodedForbidden(CodedProblem):
    """Refuses a request for a reason other than the caller's role."""

    status = 403


class Conflict(CodedProblem):
    """Reports that a rule refuses the request."""

    status = 409


class Gone(CodedProblem):
    """Reports that something existed, and is no longer available."""

    status = 410


class Stale(Problem):
    """Refuses a change whose If-Match names an earlier state: the client must read again."""

    status = 412
    code = "stale"


class TooLarge(Problem):
    """Refuses a body that is larger than the route takes, counted after inflation."""

    status = 413
    code = "too_large"


class UnsupportedMediaType(Problem):
    """Refuses a body that is not JSON, or has an encoding other than gzip."""

    status = 415
    code = "unsupported_media_type"


class RangeNotSatisfiable(Problem):
    """Refuses a range that begins after the last of `size_bytes` bytes."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(
            f"The range begins after the end: there are {size_bytes} bytes.",
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )


class ExpectationFailed(Problem):
    """Refuses an expectation that the server does not know."""

    status = 417
    code = "expectation_failed"
    detail = "The server does not know this expectation: the only one it knows is 100-continue."


class Invalid(Problem):
    """Refuses a request that can be read and is wrong; its faults are all named."""

    status = 422
    code = "invalid"


def invalid_parameter(name: str, reason: str) -> Invalid:
    """Returns the problem of one faulty parameter of the query, or field of a form."""
    return Invalid(f"{name}: {reason}", faults=[Fault(reason, parameter=name)])


class TooManyRequests(Problem):
    """Asks the client to slow down for `retry_after_s` seconds."""

    status = 429
    code = "too_many_requests"

    def __init__(self, retry_after_s: int, detail: str = "There were too many attempts.") -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})


class ServiceUnavailable(Problem):
    """Reports that nothing was recorded and that the same request may be sent again."""

    status = 503
    code = "unavailable"

    def __init__(self, detail: str, retry_after_s: int, code: str | None = None) -> None:
        super().__init__(detail, code=code, headers={"Retry-After": str(max(1, retry_after_s))})


def problem_response(problem: Problem, request_id: str) -> web.Response:
    """Returns the problem as an answer; each status has one title."""
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(problem_body(problem, request_id)),
        content_type=PROBLEM_MEDIA_TYPE,
        headers=problem.headers | {"Cache-Control": "no-store"},
    )


async def answer_or_problem(
    work: Awaitable[web.StreamResponse],
    request: web.Request,
    request_id: str,
    show: Callable[[Problem, str], web.Response] = problem_response,
) -> web.StreamResponse:
    """Returns the answer of `work`, or the problem that its error means, as `show` shows it. If the
    answer has begun to stream, its connection is broken instead, so that the client sees no clean
    end."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 (the one place: an unknown error is a 500)
        info = RequestInfo(request_id, address_of(request))
        problem = problem_of(error, info)
        if STREAM in request:
            return _broken_stream(request, error, info)
        if GRANTED in request and (problem.status == 429 or problem.status >= 500):
            return _broken_download(request, problem, info)
        return show(problem, request_id)


def problem_body(problem: Problem, request_id: str) -> ProblemBody:
    """Returns the problem as a body, or as an item of an array of answers."""
    return ProblemBody(
        type=f"urn:firmtrail:problem:{problem.code}",
        title=HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        code=problem.code,
        request_id=request_id,
        errors=problem.faults[:FAULTS_MAX],
    )


def problem_of(error: BaseException, info: RequestInfo) -> Problem:
    """Returns the problem that an error means."""
    match error:
        case Problem():
            return error
        case Refused():
            return refusal(error)
        case Unavailable():
            return _unavailable(error, info)
        case TooManyAttempts():
            return TooManyRequests(error.retry_after_s)
        case web.RequestPayloadError() | web.HTTPBadRequest() | ConnectionError():
            # A ConnectionError means that the client hung up; those of a database are Unavailable.
            return BadRequest("The body broke off, or does not have the encoding that it declares.")
        case _:
            _log.error("bug", exc_info=error, **info._asdict())
            return Problem()


def _unavailable(error: Unavailable, info: RequestInfo) -> Problem:
    """Returns a problem that may be retried, and logs its condition at most once a minute.

    Every request meets the same condition while it lasts. If a log takes no appends, or an entry is
    only in the archive, the problem says why, because only an operator can change that.
    """
    reason = str(error)
    condition = error.log if isinstance(error, LogRefused) else reason
    if (left_out := _repeats.due(condition)) is not None:
        _log.warning("unavailable", reason=reason, left_out=left_out, **info._asdict())
    if isinstance(error, AppendRefused | LogRefused):
        return ServiceUnavailable(str(error), error.retry_after_s, "log_refused")
    if isinstance(error, NoArchive):
        return Gone(_PRUNED, code="entry_pruned")
    if isinstance(error, EntriesAway):
        return ServiceUnavailable(str(error), error.retry_after_s, code="archive_away")
    detail = reason if isinstance(error, ClockAhead) else "The service cannot do this now."
    return ServiceUnavailable(detail, error.retry_after_s)


_PRUNED = (
    "The text of this entry was pruned from the database and is in the archive, which this server "
    "was not given. Ask its operator to name it with --archive."
)

_STATUSES: Mapping[int, type[Problem]] = {
    kind.status: kind for kind in (Conflict, NotFound, Forbidden, Stale)
}


def refusal(refused: Refused) -> Problem:
    """Returns the problem of a refusal by a rule, with the rule's status and code."""
    if refused.status == Invalid.status:
        faults = [Fault(refused.detail, pointer=f"/{refused.member}")] if refused.member else []
        return Invalid(refused.detail, code=refused.code, faults=faults)
    return _STATUSES.get(refused.status, Conflict)(refused.detail, code=refused.code)


def _broken_stream(request: web.Request, error: Exception, info: RequestInfo) -> web.StreamResponse:
    """Breaks the connection of an answer that has begun, and returns that answer."""
    reason = str(error) if isinstance(error, Unavailable) else type(error).__name__
    _log.warning("stream broken", reason=reason, **info._asdict())
    if request.transport is not None:
        request.transport.abort()
    return request[STREAM]


def _broken_download(request: web.Request, problem: Problem, info: RequestInfo) -> web.Response:
    """Breaks the connection of a granted download; the returned answer is not sent."""
    _log.warning("download broken", reason=problem.code, **info._asdict())
    if request.transport is not None:
        request.transport.abort()
    return problem_response(problem, info.request_id)

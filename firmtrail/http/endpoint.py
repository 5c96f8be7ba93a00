"""Turns a route into an aiohttp handler.

A request takes these steps: the names in the path, the caller, the query, the body, the route's
handler, and the mapping of its error to a problem. The query and the body are read only after the
caller is known. Everything that depends on the route alone is computed once.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Any

import structlog
import uuid_utils
from aiohttp import web
from multidict import istr

from firmtrail.commands.once import IdempotencyKey
from firmtrail.database.standby import StandbyFailed
from firmtrail.http import (
    errors,
    forms,
    joining,
    live_views,
    origin,
    parameters,
    sessions,
    trace_context,
    validate,
)
from firmtrail.http.call import AnyCall, Call, Services
from firmtrail.http.callers import PublicAccess
from firmtrail.http.clients import IS_AUTHENTICATED
from firmtrail.http.errors import GRANTED, STREAM, Problem
from firmtrail.http.incoming import check_media_type, check_whole, read_bytes
from firmtrail.http.pace import Pace
from firmtrail.http.poll import POLL_AFTER, poll_after
from firmtrail.http.route import Handler, Route, ShowsProblem, path_names
from firmtrail.http.surrogates import storable
from firmtrail.http.trace_context import ServedRequest
from firmtrail.recording.commit import LogClosed
from firmtrail.repeats import Repeats

QUIET_KINDS = frozenset({"device", "gateway"})
"""Callers whose successful requests are too many for a log line each."""
CONDITIONS = frozenset({429, 503})
"""Statuses that all requests get while a condition of the server lasts: one log line a minute."""

_log = structlog.get_logger("firmtrail.http")

REQUEST_ID = istr("X-Request-Id")

_KEY_PATTERN = re.compile(r"[!-~]{1,64}")

type AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def endpoint(route: Route, services: Services) -> AiohttpHandler:
    """Returns the route's handler with everything that surrounds it."""
    work = _unprepared(route, services) if route.is_raw else _prepared(route, services)
    if route.is_download:
        work = _breaking_off(work)
    observe = services.metrics.observer(route.protocol, route.method, route.path)
    log, traces = _logger(route), services.traces
    is_polled, shows_problem = route.is_polled, route.shows_problem

    async def handle(request: web.Request) -> web.StreamResponse:
        began = perf_counter()
        request_id = str(uuid_utils.uuid7())
        call: AnyCall = Call(request, request_id, services)
        show = errors.problem_response if shows_problem is None else _shown(shows_problem, call)
        response = await errors.answer_or_problem(work(call), request, request_id, show)
        if call.caller.is_first_call and not _is_settled(response):
            recorded = _record_first_call(call, response)
            response = await errors.answer_or_problem(recorded, request, request_id)
        _add_headers(call, response, is_polled=is_polled)
        status = response.status
        if status != 201:  # a recorded report already shows when the device called
            touch_device(call, status)
        seconds = perf_counter() - began
        observe(status, seconds)
        trace_id = None
        if traces is not None:
            served = ServedRequest(request, request_id, route.path, status, seconds)
            trace_id = traces.record(served)
        log(call, status, seconds, trace_id)
        return response

    return handle


def _add_headers(call: AnyCall, response: web.StreamResponse, *, is_polled: bool) -> None:
    if response.prepared:
        return
    headers = response.headers
    headers[REQUEST_ID] = call.request_id
    origin.protect(headers, call.services.clients.scheme(call.request))
    if is_polled:
        headers[POLL_AFTER] = poll_after(call)


def _read_again(handler: Handler) -> Handler:
    """Returns the handler so that a failure of the standby makes it run again, on the primary. An
    answer that has begun is not repeated."""

    async def handle(call: AnyCall) -> web.StreamResponse:
        try:
            return await handler(call)
        except StandbyFailed:
            if STREAM in call.request:
                raise
            return await handler(call)

    return handle


def _is_settled(response: web.StreamResponse) -> bool:
    """Returns whether a device's first call needs no record. A 201 recorded it; after a 5xx the
    device calls again; and an answer that was sent cannot wait for it."""
    return response.status == 201 or response.status >= 500 or response.prepared


def _shown(shows_problem: ShowsProblem, call: AnyCall) -> Callable[[Problem, str], web.Response]:
    return lambda problem, _request_id: shows_problem(call, problem)


def touch_device(call: AnyCall, status: int) -> None:
    """Remembers that a device called, itself or through a gateway whose request succeeded. The time
    is written later, together with those of other devices."""
    device = call.caller.device
    if call.caller.kind == "gateway" and status < 400:
        device = call.request.match_info.get("device")
    if device:
        access = call.services.access
        access.seen.touch(call.project, device, access.now_ms())


async def _record_first_call(call: AnyCall, response: web.StreamResponse) -> web.StreamResponse:
    """Makes the device's first call durable, checks its secret again, and returns the answer.
    Raises `Unavailable`, or `Unauthorized` if the secret is no longer valid."""
    access = call.services.access
    await access.seen.first(call.project, call.caller.device or "", access.now_ms())
    await call.authenticate(call.request)
    return response


type Work = Callable[[AnyCall], Awaitable[web.StreamResponse]]
"""Returns the answer to a call, or raises the error of it."""


def _breaking_off(work: Work) -> Work:
    """Returns the work so that an error of the moment breaks the connection."""

    def breaking_off(call: AnyCall) -> Awaitable[web.StreamResponse]:
        call.request[GRANTED] = True
        return work(call)

    return breaking_off


def _unprepared(route: Route, services: Services) -> Work:
    """Returns the work of a route whose handler reads the request itself."""
    check_origin, handler = _origin_check(route, services), route.handler
    is_safe = route.method in origin.SAFE_METHODS

    async def work(call: AnyCall) -> web.StreamResponse:
        if not is_safe:
            check_origin(call.request)
        return await handler(call)

    return work


def _origin_check(route: Route, services: Services) -> Callable[[web.Request], None]:
    """Returns the check of requests that change something."""
    check = origin.check_same_origin if route.shows_problem is None else sessions.check_origin
    return partial(check, clients=services.clients)


def _prepared(route: Route, services: Services) -> Work:
    """Returns the work of a route whose handler gets a call that is checked and filled in."""
    check_origin, blank_bad_names = _origin_check(route, services), _name_check(route.path)
    authenticate = services.authentication(route.access)
    is_public = isinstance(route.access, PublicAccess)
    query_of, take_body = _query_reader(route), _body_taker(route)
    check_moved, path = services.moves.check, route.path
    builder, needs_live_views = services.builder, not route.reads_log_only
    make_live = live_views.require if route.is_view else live_views.take_over
    is_safe = route.method in origin.SAFE_METHODS
    standby = services.standby if route.reads_standby else None
    handler = route.handler if standby is None else _read_again(route.handler)

    async def work(call: AnyCall) -> web.StreamResponse:
        request = call.request
        if not is_safe:
            check_origin(request)
        blank_bad_names(request.match_info)
        if not is_public:
            call.authenticate = authenticate
            call.caller = await authenticate(request)
            request[IS_AUTHENTICATED] = True
            check_moved(call.caller, request, path, is_safe=is_safe)
        if needs_live_views and call.log_id in builder.unfit:
            await make_live(services, call.log_id)
        if call.caller.is_joining:
            await joining.join(call)
        if standby is not None:
            call.db = standby.reading()
        call.query = query_of(request)
        if not is_safe:
            check_whole(request)
        if take_body is not None:
            await take_body(call)
        try:
            return await handler(call)
        except LogClosed as error:
            services.moves.check_closed(error)
            raise

    return work


def _query_reader(route: Route) -> Callable[[web.Request], Any]:
    make = parameters.query_reader if route.shows_problem is None else forms.query_reader
    read = make(route.query, takes_any=route.takes_any_query)
    no_query = route.query() if validate.is_optional(route.query) else None

    def query_of(request: web.Request) -> Any:
        if no_query is not None and not request.rel_url.raw_query_string:
            return no_query
        return read(request.query)

    return query_of


def _name_check(path: str) -> Callable[[dict[str, str]], None]:
    """Returns the function that replaces malformed names in the path by "", which matches nothing.
    A database may not be able to store such a name, so it never gets one."""
    checks = [(name, re.compile(each.pattern).match) for name, each in path_names(path).items()]

    def blank_bad_names(names: dict[str, str]) -> None:
        for name, matches in checks:
            if matches(names[name]) is None:
                names[name] = ""

    return blank_bad_names


type TakeBody = Callable[[AnyCall], Awaitable[None]]


def _body_taker(route: Route) -> TakeBody | None:
    if route.form is not None:
        return forms.form_taker(route.form)
    if route.body is None:
        return _take_key if route.takes_key else None
    items_max = route.array_items_max
    read = validate.body_reader(route.body, items_max)
    read_skipping = validate.skipping_reader(route.body, items_max) if route.skips_faulty else read
    takes_arrays, bytes_max = validate.takes_arrays(route.body), route.body_bytes_max
    empty = b"{}" if validate.is_optional(route.body) else b""

    async def take_body(call: AnyCall) -> None:
        check_media_type(call.request)
        body = await read_bytes(call.request, takes_arrays=takes_arrays, single_bytes_max=bytes_max)
        if route.takes_any_text and b"\\u" in body:
            body = await storable(body, Pace())
        is_skipping = route.skips_faulty and call.query.faulty == "skip"
        call.body = await (read_skipping if is_skipping else read)(body or empty)
        if route.takes_key:
            call.key = key_of(call.request, call.caller.actor_id, body)

    return take_body


async def _take_key(call: AnyCall) -> None:
    call.key = key_of(call.request, call.caller.actor_id, b"")


def key_of(request: web.Request, actor_id: str | None, body: bytes) -> IdempotencyKey | None:
    """Returns the Idempotency-Key of a user's request, if it has one. Raises `BadRequest`."""
    key = request.headers.get("Idempotency-Key")
    if key is None or actor_id is None:
        return None
    if _KEY_PATTERN.fullmatch(key) is None:
        raise errors.BadRequest("Idempotency-Key must be 1 to 64 visible ASCII characters.")
    line = f"{request.method} {request.rel_url.raw_path_qs}\n".encode()
    return IdempotencyKey(actor_id, key, sha256(line + body).hexdigest())


def _logger(route: Route) -> Callable[[AnyCall, int, float, str | None], None]:
    path = route.path
    is_debugging = structlog.get_logger().is_enabled_for(logging.DEBUG)
    repeats = Repeats()

    def log(call: AnyCall, status: int, seconds: float, trace_id: str | None) -> None:
        caller = call.caller
        is_quiet = status < 400 and caller.kind in QUIET_KINDS
        if is_quiet and not is_debugging:
            return
        left_out = repeats.due(status) if status in CONDITIONS else 0
        if left_out is None:
            return
        more: dict[str, Any] = {"left_out": left_out} if left_out else {}
        if found := trace_id or trace_context.trace_id(call.request):
            more["trace_id"] = found
        (_log.debug if is_quiet else _log.info)(
            "request",
            method=call.request.method,
            route=path,
            path=call.request.rel_url.raw_path,
            status=status,
            duration_ms=round(seconds * 1_000_000) / 1000,
            actor=caller.actor,
            address=call.address,
            request_id=call.request_id,
            **more,
        )

    return log

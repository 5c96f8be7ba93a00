"""Builds the rows of the route table in short form, and names what most rows share.

The summary of a row is the first line of the handler's docstring, so users read that line in the
OpenAPI document. Any other field of `Route` can be given by its name.
"""

from collections.abc import Mapping
from http import HTTPMethod
from typing import Any

from firmtrail.http.callers import (
    DeviceAccess,
    GatewayAccess,
    LocalAccess,
    MemberAccess,
    Permission,
    RouteAccess,
)
from firmtrail.http.lists import Listing, ListQuery
from firmtrail.http.respond import CSV, LOG_SIZE, NDJSON
from firmtrail.http.route import Content, Handler, Route

GET, POST, PUT = HTTPMethod.GET, HTTPMethod.POST, HTTPMethod.PUT
PATCH, DELETE = HTTPMethod.PATCH, HTTPMethod.DELETE

P = "/api/v1/projects/{project}"
D = f"{P}/devices/{{device}}"
L = f"{P}/logs/{{number}}"
"""The paths of a project, of one of its devices and of one of its logs."""

LOCAL_PROJECT = "/local/projects/{project}"
"""The path of a project on the local socket."""

READ = MemberAccess(Permission.READ)
OPERATE = MemberAccess(Permission.OPERATE)
AUDIT = MemberAccess(Permission.AUDIT)
ADMINISTER = MemberAccess(Permission.ADMINISTER)

CONFLICT = frozenset({409})
"""The status of most refusals by the rules."""

CHANGED = ("ETag", LOG_SIZE)
"""Headers of a state as a command left it, which the next command's If-Match can name."""

TEXT = "text/plain"


def read(
    path: str, handler: Handler, access: RouteAccess, answers: Mapping[int, Content], **fields: Any
) -> Route:
    """Describes a GET with these answers."""
    return _row(GET, path, handler, access, answers=answers, **fields)


def resource(
    path: str, handler: Handler, access: RouteAccess, content: Content, **fields: Any
) -> Route:
    """Describes a GET whose answer has an ETag, so that a client that has it already gets 304."""
    return read(path, handler, access, {200: content, 304: None}, **fields)


def listing(
    path: str, handler: Handler, access: RouteAccess, item: Content, **fields: Any
) -> Route:
    """Describes a GET that answers with a page of items, or with all of them as CSV or NDJSON."""
    defaults = {"query": ListQuery, "other_media": (CSV, NDJSON), "reads_standby": True}
    return resource(path, handler, access, Listing[item], **(defaults | fields))


def command(
    method: HTTPMethod, path: str, handler: Handler, access: RouteAccess, **fields: Any
) -> Route:
    """Describes a request that changes something. Without `answers` it is answered with 204. Each
    POST of a user takes an Idempotency-Key; devices and gateways send a report_id instead."""
    is_of_user = (
        not isinstance(access, DeviceAccess | GatewayAccess | LocalAccess)
        and "is_raw" not in fields
    )
    takes_key = method is POST and is_of_user
    defaults = {"answers": {204: None}, "refusals": CONFLICT, "takes_key": takes_key}
    return _row(method, path, handler, access, **(defaults | fields))


def _row(
    method: HTTPMethod, path: str, handler: Handler, access: RouteAccess, **fields: Any
) -> Route:
    summary = (handler.__doc__ or "").partition("\n")[0]
    return Route(
        method=method, path=path, handler=handler, access=access, summary=summary, **fields
    )

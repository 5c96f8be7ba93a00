"""Reads the credentials of Memfault's clients, and shapes answers as they read them."""

import re
from collections.abc import Mapping
from http import HTTPMethod
from typing import Any

import msgspec
from aiohttp import web

from firmtrail.access.keys import Keys
from firmtrail.http import respond
from firmtrail.http.auth import presented
from firmtrail.http.callers import DeviceAccess, MemberAccess, Permission, Presented, RouteAccess
from firmtrail.http.route import Handler, Route
from firmtrail.http.scalars import DEVICE_PATTERN

PROJECT_KEY = "Memfault-Project-Key"
ORGANIZATION = "/api/v0/organizations/{organization}/projects/{project}"

_is_device = re.compile(DEVICE_PATTERN).match


class ClientError(msgspec.Struct, frozen=True):
    """Says what is wrong, in the words of `error`."""

    message: str
    type: str = "invalid"


class Failed(msgspec.Struct, frozen=True):
    """Holds an error as Memfault's clients read it."""

    error: ClientError


class Data[Content](msgspec.Struct, frozen=True):
    """Holds an answer as Memfault's tools read it."""

    data: Content


async def of_device(request: web.Request, _keys: Keys) -> Presented:
    """Reads a device's request: the project key, or the device's own secret, in a header of its own
    or as everywhere. The key names the project."""
    credential = request.headers.get(PROJECT_KEY, "").strip() or presented(request)
    device = request.match_info.get("device") or request.query.get("device_serial", "")
    return Presented(credential, None, device if _is_device(device) else "")


DEVICE: RouteAccess = DeviceAccess(presents=of_device)
READ: RouteAccess = MemberAccess(Permission.READ)
OPERATE: RouteAccess = MemberAccess(Permission.OPERATE)


def data(content: Any) -> web.Response:
    """Returns an answer to a tool."""
    return respond.json(200, Data(content), respond.NO_STORE)


def bad_request(message: str) -> web.Response:
    """Returns a refusal whose message tools show to people."""
    return respond.json(400, Failed(ClientError(message)), respond.NO_STORE)


def row(
    method: HTTPMethod,
    path: str,
    handler: Handler,
    access: RouteAccess,
    *,
    answers: Mapping[int, Any],
    **fields: Any,
) -> Route:
    """Describes a route of this protocol."""
    summary = (handler.__doc__ or "").partition("\n")[0]
    return Route(
        method=method,
        path=path,
        handler=handler,
        access=access,
        summary=summary,
        answers=answers,
        **fields,
    )

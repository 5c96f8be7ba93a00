"""Lists the routes for tests that visit all of them, and checks the shape of problems."""

import re
from typing import Any

from firmtrail.application.routes import served
from firmtrail.http.callers import (
    DeviceAccess,
    LocalAccess,
    MemberAccess,
    PublicAccess,
)
from firmtrail.http.route import Route
from firmtrail.protocols.mender.authentication import of_device as of_mender_device
from tests.serving import Answer

ROUTES = served(has_seed=True, is_demo=True)
GUARDED = [route for route in ROUTES if not isinstance(route.access, PublicAccess | LocalAccess)]
IN_PROJECT = [
    route
    for route in GUARDED
    if isinstance(route.access, MemberAccess | DeviceAccess) and "{project}" in route.path
]

NAMES = {
    "project": "acme",
    "device": "d1",
    "position": "0",
    "number": "1",
    "level": "0",
    "tile": "000.p/1",
    "model": "m",
    "version": "1.0.0",
    "sha256": "0" * 64,
    "tenant": "acme",
    "action": "1",
    "module": "1",
}


def needs_a_key(route: Route) -> bool:
    """Returns whether only the token that a device gets for its own key opens the route."""
    return isinstance(route.access, DeviceAccess) and route.access.presents is of_mender_device


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def path_of(route: Route, **names: str) -> str:
    chosen = NAMES | names
    return re.sub(r"{(\w+)}", lambda found: chosen.get(found[1], "x"), route.path)


def assert_is_problem(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id", "errors"}
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    return problem

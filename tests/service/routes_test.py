"""Checks every route of the table: its callers, and that it answers as the document says."""

from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from firmtrail.http import openapi
from firmtrail.http.api import rows
from firmtrail.http.callers import (
    DeviceAccess,
    GatewayAccess,
    LocalAccess,
)
from firmtrail.http.route import Route
from firmtrail.protocols.hawkbit.caller import BASE, MOUNTS
from tests.service.routes import (
    GUARDED,
    IN_PROJECT,
    ROUTES,
    assert_is_problem,
    name_of,
    needs_a_key,
    path_of,
)
from tests.service.site import D, P, Site

DOCUMENT: dict[str, Any] = msgspec.json.decode(openapi.document(ROUTES))


ROLLOUT, ARTIFACT = (
    f"{rows.P}/rollouts/{{id}}",
    f"{rows.P}/releases/{{model}}/{{version}}/artifacts/{{name}}",
)
TAKEN = [  # a route, the request headers that it reads
    (f"GET {rows.P}/stream", {"Last-Event-ID"}),
    (f"PUT {ARTIFACT}", {"Repr-Digest", "Content-Digest"}),
    (f"GET {ARTIFACT}", {"If-None-Match", "If-Match", "Range", "If-Range"}),
    (f"PATCH {rows.D}", {"If-Match"}),
    (f"PATCH {rows.P}", {"If-Match"}),
    ("POST /api/v1/login", {"Idempotency-Key"}),
    (f"POST {rows.P}/halt", {"Idempotency-Key"}),
    (f"POST {rows.P}/resume", {"Idempotency-Key"}),
    *(
        (f"POST {ROLLOUT}/{command}", {"If-Match", "Idempotency-Key"})
        for command in ("advance", "pause", "resume", "abort")
    ),
]
SENT = [  # a route, a status, the headers of its answer, without X-Request-Id
    (f"GET {rows.D}/update", 200, {"ETag", "Firmtrail-Log-Size", "Firmtrail-Poll-After"}),
    (f"GET {rows.D}/update", 409, {"Firmtrail-Poll-After"}),
    (f"PATCH {rows.D}", 200, {"ETag", "Firmtrail-Log-Size"}),
    (f"PATCH {rows.P}", 200, {"ETag"}),
    (f"POST {rows.P}/halt", 200, set()),
    (f"POST {ROLLOUT}/pause", 200, {"ETag", "Firmtrail-Log-Size"}),
    (f"GET {rows.P}/devices", 200, {"ETag", "Firmtrail-Log-Size", "Link", "Vary"}),
    (f"GET {rows.P}/events", 200, {"Firmtrail-Log-Size", "Vary"}),
    (f"GET {rows.P}/log/tile/entries/{{tile}}", 200, {"ETag", "Vary"}),
    (f"POST {rows.D}/reports", 201, {"Preference-Applied"}),
    (f"GET {ARTIFACT}", 200, {"ETag", "Accept-Ranges", "Repr-Digest"}),
    (f"GET {ARTIFACT}", 206, {"ETag", "Accept-Ranges", "Repr-Digest", "Content-Range"}),
    (f"GET {ARTIFACT}", 416, {"Content-Range"}),
    ("POST /api/v1/projects", 201, {"Location"}),
]

NAMED = {header for _, _, headers in SENT for header in headers}


def operation_of(name: str) -> dict[str, Any]:
    method, path = name.split(" ")
    operation: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return operation


def test_no_two_routes_are_the_same() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    validate(DOCUMENT)


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_every_route_is_documented(route: Route) -> None:
    if isinstance(route.access, LocalAccess):
        assert route.path not in DOCUMENT["paths"]
        return
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    documented = {int(status) for status in operation["responses"]}
    assert documented == {*route.answers, *route.problems()}
    assert operation["summary"].endswith(".")
    assert ("requestBody" in operation) == (route.body is not None or route.takes_bytes)


@pytest.mark.parametrize(("name", "headers"), TAKEN)
def test_the_request_headers_of_a_route_are_documented(name: str, headers: set[str]) -> None:
    parameters = operation_of(name)["parameters"]
    assert {each["name"] for each in parameters if each["in"] == "header"} == headers


@pytest.mark.parametrize(("name", "status", "headers"), SENT)
def test_the_headers_of_answers_are_documented(name: str, status: int, headers: set[str]) -> None:
    response = operation_of(name)["responses"][str(status)]
    assert response["headers"].keys() == headers | {"X-Request-Id"}


def test_every_post_of_a_user_takes_an_idempotency_key() -> None:
    posts = [route for route in ROUTES if route.method == "POST" and not route.takes_key]
    keyless = {route.path for route in posts if route.path.startswith("/api/v1/")}
    assert keyless == {f"{rows.P}/reports", f"{rows.D}/reports"}


def test_status_412_is_documented_exactly_for_routes_that_read_if_match() -> None:
    for route in ROUTES:
        if isinstance(route.access, LocalAccess):
            continue
        operation = operation_of(name_of(route))
        taken = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert ("If-Match" in taken) == ("412" in operation["responses"]), name_of(route)


def test_every_operation_has_an_id_of_its_own() -> None:
    ids = [
        operation["operationId"]
        for path in DOCUMENT["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    ]
    assert len(ids) == len(set(ids))


def test_every_parameter_and_group_is_described_in_words() -> None:
    groups = {each["name"] for each in DOCUMENT["tags"]}
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            assert set(operation["tags"]) <= groups, path
            assert operation["description"], path
            for each in operation["parameters"]:
                assert each.get("description"), (path, each["name"])


def test_a_duration_is_described_with_its_unit() -> None:
    parameters = operation_of(f"GET {rows.P}/devices")["parameters"]
    [silent_for] = [each for each in parameters if each["name"] == "silent_for"]
    assert "seconds" in silent_for["description"]


async def test_every_route_refuses_a_request_without_a_credential(site: Site) -> None:
    for route in GUARDED:
        answer = await site.call(route.method, path_of(route), data=b"no json")
        problem = assert_is_problem(answer, 401)
        challenges = answer.headers["WWW-Authenticate"].split(", ")
        assert [each.split(" ")[0] for each in challenges] == ["Bearer", "Basic"], name_of(route)
        assert problem["code"] == "unauthorized"


async def test_every_route_of_a_project_is_hidden_from_strangers(site: Site) -> None:
    for route in IN_PROJECT:
        answer = await site.call(route.method, path_of(route), caller="stranger", data=b"no json")
        assert_is_problem(answer, 404)


async def test_a_devices_secret_is_refused_on_routes_of_users(site: Site) -> None:
    for route in GUARDED:
        if not isinstance(route.access, DeviceAccess | GatewayAccess):
            answer = await site.call(route.method, path_of(route), caller="device", data=b"x")
            assert_is_problem(answer, 403)


async def test_routes_of_the_local_socket_are_not_found_over_tcp(site: Site) -> None:
    for route in ROUTES:
        if isinstance(route.access, LocalAccess):
            answer = await site.call(route.method, path_of(route), caller="admin", data=b"{}")
            assert_is_problem(answer, 404)


async def test_every_path_lists_the_methods_that_it_allows(site: Site) -> None:
    for path in {route.path for route in ROUTES}:
        here = [route for route in ROUTES if route.path == path]
        answer = await site.call("PROPFIND", path_of(here[0]))
        assert_is_problem(answer, 405)
        methods = {str(route.method) for route in here}
        allowed = set(answer.headers["Allow"].split(", "))
        assert allowed == methods | ({"HEAD"} if "GET" in methods else set())


async def test_an_unknown_parameter_is_named_on_every_route(site: Site) -> None:
    for route in GUARDED:
        if isinstance(route.access, DeviceAccess):
            continue
        answer = await site.call(route.method, f"{path_of(route)}?frobnicate=1", caller="admin")
        problem = assert_is_problem(answer, 422)
        assert {"reason": "is unknown here", "parameter": "frobnicate"} in problem["errors"]


async def test_every_body_has_to_be_json_of_a_bounded_size(site: Site) -> None:
    json = {"Content-Type": "application/json"}
    failures: list[tuple[int, bytes, dict[str, str]]] = [
        (400, b"{", json),
        (400, b"\xff", json),
        (422, b"7", json),
        (415, b"{}", {"Content-Type": "text/plain"}),
        (415, b"{}", json | {"Content-Encoding": "br"}),
        (400, b"{}", json | {"Content-Encoding": "gzip"}),
        (413, b"[" + b" " * (4 * 1024 * 1024) + b"]", json),
    ]
    for route in GUARDED:
        if route.body is None or needs_a_key(route):
            continue
        too_long = b'"' + b"a" * route.body_bytes_max + b'"'
        for status, body, headers in [*failures, (413, too_long, json)]:
            answer = await site.call(
                route.method, path_of(route), caller="admin", data=body, headers=headers
            )
            assert_is_problem(answer, status)


@pytest.fixture
async def found(site: Site) -> dict[str, str]:
    """Fills the site, and returns the names that make nearly every path lead to something."""
    made = {}
    for caller, method, path, body in (
        ("admin", "POST", "/releases", {"version": "1.0.0", "model": "m"}),
        ("admin", "POST", "/rollouts", {"version": "1.0.0", "model": "m"}),
        ("admin", "PATCH", "/devices/d1", {"model": "m"}),
        ("device", "POST", "/devices/d1/reports", {"version": "0.9.0", "detail": "x"}),
    ):
        made[path] = await site.call(method, f"{P}{path}", caller=caller, json=body)
        assert made[path].status in {200, 201}, made[path].body
    artifact = f"{P}/releases/m/1.0.0/artifacts/full.bin"
    put = await site.call("PUT", artifact, caller="admin", data=b"some bytes")
    assert put.status == 201
    assert (await site.get(f"{D}/update", "device")).json["version"] == "1.0.0"
    assert site.services.publisher is not None
    await site.services.publisher.following.round()
    id_, sha256 = made["/rollouts"].json["id"], put.json["sha256"]
    position = str(made["/devices/d1/reports"].json["position"])
    return {"id": id_, "name": "full.bin", "sha256": sha256, "position": position}


ENDED = ("cancelAction/{action}", "installedBase/{action}")
"""An action is at most one of: to install, to give up, installed."""

INCOMPLETE = {
    *(f"GET {mount}{BASE}/{path}" for mount in MOUNTS for path in ENDED),
    "GET /docs/{file}",
    "GET /dl/{project}/{device}/{sha256}/{name}",  # its query is a signature
    "GET /api/v1/projects/{project}/actors/{id}",  # the id belongs to a rollout
    "GET /api/v1/projects/{project}/log/consistency",
    "GET /api/v1/projects/{project}/logs/{number}/consistency",
    "GET /api/v1/projects/{project}/search",
    "GET /api/v1/projects/{project}/versions/timeline",
    "GET /api/v1/projects/{project}/webhooks/{id}",  # the id belongs to a rollout
    "GET /api/v1/projects/{project}/webhooks/{id}/deliveries",
}
"""The routes that need more than their path to answer 200."""
NOT_200 = {
    "GET /get_firmware_updates_by_device_id",
    "GET /api/v0/releases/latest",  # they need a query, and may answer 204
    "GET /api/v0/releases/latest/url",
    f"GET {rows.D}/swupdate",  # it redirects
    "GET /api/devices/v1/deployments/device/deployments/next",  # it needs a device's own key
}


async def test_every_get_answers_head_with_the_same_headers(
    site: Site, found: dict[str, str]
) -> None:
    refused = set()
    for route in ROUTES:
        if route.method != "GET" or isinstance(route.access, LocalAccess):
            continue
        path = path_of(route, **found)
        get = await site.get_begun(path)
        head = await site.call("HEAD", path, caller="admin")
        assert (head.status, head.body) == (get.status, b""), name_of(route)
        assert get.status in {*route.answers, *route.problems()}, name_of(route)
        for header in ("ETag", "Content-Type", "Firmtrail-Log-Size"):
            assert get.headers.get(header) == head.headers.get(header), name_of(route)
        documented = operation_of(name_of(route))["responses"][str(get.status)]["headers"]
        assert documented.keys() >= {each for each in NAMED if each in get.headers}, name_of(route)
        if get.status != 200:
            refused.add(name_of(route))
    assert refused == INCOMPLETE | NOT_200


async def test_a_request_with_the_current_etag_gets_304_without_a_body(
    site: Site, found: dict[str, str]
) -> None:
    refused = set()
    for route in ROUTES:
        if not route.is_resource or isinstance(route.access, LocalAccess):
            continue
        path = path_of(route, **found)
        first = await site.get(path)
        if first.status != 200:
            refused.add(name_of(route))
            continue
        again = await site.get(path, If_None_Match=first.headers["ETag"])
        assert (again.status, again.body) == (304, b""), name_of(route)
        assert again.headers["ETag"] == first.headers["ETag"]
    assert refused == INCOMPLETE


async def test_an_unknown_path_is_answered_with_a_problem(site: Site) -> None:
    for path in ("/api", "/api/v1/projects/acme/devices/d1/frobnicate", "/%00", "/x//"):
        assert_is_problem(await site.call("GET", path), 404)


async def test_a_name_that_no_database_could_hold_is_not_found(site: Site) -> None:
    for project, device in (("acme", "a%00b"), ("a%00b", "d1"), ("acme", "%F0%9F"), ("acme", "..")):
        path = f"/api/v1/projects/{project}/devices/{device}"
        assert_is_problem(await site.call("GET", path, caller="admin"), 404)
        assert_is_problem(await site.call("POST", f"{path}/reports", data=b"{}"), 401)

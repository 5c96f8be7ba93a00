"""Makes the OpenAPI 3.1 document from the route table and the structs that validate.

No other file describes what a route takes and answers, so the document always agrees with the code.
The dialect stays OpenAPI's default: programs that read the document complain about others.
"""

import functools
from collections.abc import Iterable, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from apispec import APISpec

from firmtrail import __version__
from firmtrail.config import NATIVE
from firmtrail.http import described, scalars
from firmtrail.http.callers import DeviceAccess, LocalAccess, MemberAccess, PublicAccess, UserAccess
from firmtrail.http.errors import PROBLEM_MEDIA_TYPE, ProblemBody
from firmtrail.http.poll import POLL_AFTER
from firmtrail.http.respond import BYTES, JSON, LOG_SIZE
from firmtrail.http.route import AnyOf, ListOf, Route, path_names
from firmtrail.http.validate import is_optional

DOCUMENT = web.AppKey("DOCUMENT", functools.partial)
"""Makes the document, or returns the one that it made before."""

SECURITY = ("bearer", "basic")

_REF = "#/components/schemas/{name}"

_DESCRIPTION = """\
Firmtrail records what each device of a fleet runs. Times are in RFC 3339 and UTC, versions are
SemVer 2.0.0, and errors are RFC 9457 problems with a stable `code` and all faults of a body. Each
GET also answers HEAD. To try a route here, press Authorize and paste an API token of
`firmtrail token create`, or a device's secret."""

_HEADERS = {
    LOG_SIZE: "The number of events in the log that the answer was read from. For a time before "
    "the newest log it is below 0: -n stands for all events of earlier logs but their last n.",
    POLL_AFTER: "The device should call again after this many seconds.",
    "Content-Range": "The range of the bytes that the answer holds, or their number.",
    "ETag": "A hash of the body, for If-None-Match and If-Match.",
    "Link": "The address of the next page, if there is one.",
    "Location": "The address of the new resource.",
    "Preference-Applied": "The preference that was followed (RFC 7240).",
    "Repr-Digest": "The SHA-256 of all the bytes (RFC 9530).",
    "Vary": "The headers of the request that decide the form of the answer.",
    "X-Request-Id": "The request's id, which the server also writes to its log.",
}

_HEADERS_BY_STATUS = {
    206: ("Content-Range",),
    401: ("WWW-Authenticate",),
    416: ("Content-Range",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def document(routes: Sequence[Route]) -> bytes:
    """Returns the document of these routes, as JSON, without those of the local socket."""
    routes = [route for route in routes if not isinstance(route.access, LocalAccess)]
    spec = APISpec(
        title="Firmtrail",
        version=__version__,
        openapi_version="3.1.0",
        info={"description": _DESCRIPTION, "license": {"name": "Apache-2.0"}},
    )
    for name, text in described.GROUPS.items():
        spec.tag({"name": name, "description": text})
    _add_security(spec)
    schemas = _Schemas(routes)
    for name, schema in schemas.components.items():
        spec.components.schema(name, schema)
    for path in dict.fromkeys(route.path for route in routes):
        here = [route for route in routes if route.path == path]
        spec.path(path, operations=_operations(here, schemas), parameters=_path_parameters(path))
    return msgspec.json.encode(spec.to_dict())


@functools.lru_cache(maxsize=16)
def seen_from(document: bytes, base_url: str) -> bytes:
    """Returns the document for clients that reach the service under this base address."""
    decoded = msgspec.json.decode(document)
    return msgspec.json.encode({**decoded, "servers": [{"url": base_url}]})


class _Schemas:
    """Holds the JSON schemas of all types that the routes name."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._types: list[Any] = [ProblemBody]
        for route in routes:
            for content in route.answers.values():
                self._types += _types_in(content)
            self._types += [] if route.body is None else [route.body]
        schemas, self.components = msgspec.json.schema_components(self._types, ref_template=_REF)
        self._schemas = list(schemas)

    def of(self, content: Any) -> dict[str, Any]:
        match content:
            case AnyOf(contents):
                return {"anyOf": [self.of(each) for each in contents]}
            case ListOf(item):
                return {"type": "array", "items": self.of(item)}
            case kind:
                return self._schemas[self._types.index(kind)]


def _types_in(content: Any) -> list[Any]:
    match content:
        case None | str():
            return []
        case AnyOf(contents):
            return [kind for each in contents for kind in _types_in(each)]
        case ListOf(item):
            return _types_in(item)
        case kind:
            return [kind]


def _operations(routes: Iterable[Route], schemas: _Schemas) -> dict[str, Any]:
    operations = {}
    for route in routes:
        operations[route.method.lower()] = _operation(route, schemas)
        if route.method is HTTPMethod.GET:
            operations["head"] = _head(operations["get"])
    return operations


def _head(get: dict[str, Any]) -> dict[str, Any]:
    responses = {
        status: {name: part for name, part in answer.items() if name != "content"}
        for status, answer in get["responses"].items()
    }
    return get | {"responses": responses, "operationId": f"head_{get['operationId']}"}


def _operation(route: Route, schemas: _Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "description": f"May be called by {_access(route)}.",
        "tags": [described.group_of(route)],
        "parameters": [*_query_parameters(route), *_header_parameters(route)],
        "responses": _responses(route, schemas),
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route, schemas)
    elif route.takes_bytes:
        operation["requestBody"] = {"required": True, "content": {BYTES: {}}}
    if isinstance(route.access, PublicAccess):
        operation["security"] = []
    if isinstance(route.access, MemberAccess) and route.access.is_public_checkpoint:
        operation["security"] = [{}, *({name: []} for name in SECURITY)]
    return operation | {"x-access": _access(route)}


def _operation_id(route: Route) -> str:
    """Returns a distinct id: some handlers serve the newest log and, by number, every log. A
    protocol may give its handlers any names, and serve a path below several others."""
    name = route.handler.__name__
    if route.protocol != NATIVE:
        mount = route.path.partition("{")[0].strip("/")
        return "_".join(filter(None, (route.protocol, name, *mount.split("/"))))
    return f"{name}_by_number" if "{number}" in route.path else name


def _access(route: Route) -> str:
    match route.access:
        case MemberAccess(permission, is_public_checkpoint=True):
            return f"anyone with public_checkpoint, else a token whose role may {permission}"
        case MemberAccess(permission):
            return f"a token whose role in the project may {permission}"
        case DeviceAccess(permission):
            return f"the device's own secret, or a token whose role may {permission}"
        case UserAccess():
            return "a login or an API token"
        case _:
            return "anyone"


def _request_body(route: Route, schemas: _Schemas) -> dict[str, Any]:
    content = {JSON: {"schema": schemas.of(route.body)}}
    return {"required": not is_optional(route.body), "content": content}


def _responses(route: Route, schemas: _Schemas) -> dict[str, Any]:
    answers = {str(status): _answer(route, status, schemas) for status in route.answers}
    problem = {PROBLEM_MEDIA_TYPE: {"schema": schemas.of(ProblemBody)}}
    problems = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": _headers(*_always_sent(route, status)),
            "content": problem,
        }
        for status in route.problems()
    }
    for status in answers.keys() & problems.keys():  # a protocol's own errors, next to ours
        answers[status]["content"] = answers[status].get("content", {}) | problem
    return dict(sorted((problems | answers).items()))


def _always_sent(route: Route, status: int) -> list[str]:
    """Returns the headers of any answer, whether it is a problem or not."""
    polled = (POLL_AFTER,) if route.is_polled else ()
    return ["X-Request-Id", *polled, *_HEADERS_BY_STATUS.get(status, ())]


def _answer(route: Route, status: int, schemas: _Schemas) -> dict[str, Any]:
    content = route.answers[status]
    named = {
        "ETag": route.is_resource,
        LOG_SIZE: route.is_view,
        "Link": route.is_list,
        "Preference-Applied": route.skips_faulty,
        "Vary": bool(route.other_media),
    }
    names = [name for name, is_sent in named.items() if is_sent]
    answer: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": _headers(*_always_sent(route, status), *names, *route.sends),
    }
    if isinstance(content, str):
        kind = "object" if content.endswith("+json") else "string"
        answer["content"] = {content: {"schema": {"type": kind}}}
    elif content is not None:
        media = {each: {"schema": {"type": "string"}} for each in route.other_media}
        answer["content"] = {JSON: {"schema": schemas.of(content)}} | media
    return answer


def _headers(*names: str) -> dict[str, Any]:
    return {
        name: {"description": _HEADERS.get(name, name), "schema": {"type": "string"}}
        for name in names
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": msgspec.json.schema(each.documented_as),
        }
        for name, each in path_names(path).items()
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    _, components = msgspec.json.schema_components([route.query])
    [schema] = (each for name, each in components.items() if name == route.query.__name__)
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _never_null(member),
            **described.parameter(route.query.__name__, name),
        }
        for name, member in schema["properties"].items()
    ]


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema without null: a query parameter is present or absent, and never null."""
    if "anyOf" in schema:
        [schema] = (each for each in schema["anyOf"] if each != {"type": "null"})
    members = {name: value for name, value in schema.items() if (name, value) != ("default", None)}
    if None in members.get("enum", []):
        members["enum"] = [each for each in members["enum"] if each is not None]
    return members


def _header_parameters(route: Route) -> list[dict[str, Any]]:
    named = {
        "Idempotency-Key": (route.takes_key, scalars.VisibleText),
        "If-None-Match": (route.is_resource, str),
        "If-Match": (412 in route.problems(), str),
        "Last-Event-ID": (route.is_endless, str),
        "Prefer": (route.skips_faulty, str),
        "Range": (206 in route.answers, str),
        "If-Range": (206 in route.answers, str),
        "Repr-Digest": (route.takes_bytes, str),
        "Content-Digest": (route.takes_bytes, str),
    }
    return [
        {
            "name": name,
            "in": "header",
            "schema": msgspec.json.schema(kind),
            **described.header(name),
        }
        for name, (is_taken, kind) in named.items()
        if is_taken
    ]


def _add_security(spec: APISpec) -> None:
    spec.components.security_scheme(
        "bearer",
        {"type": "http", "scheme": "bearer", "description": "A token, or a device's own secret."},
    )
    spec.components.security_scheme(
        "basic",
        {
            "type": "http",
            "scheme": "basic",
            "description": "The token or the device's secret as the password; any user name.",
        },
    )
    spec.options["security"] = [{name: []} for name in SECURITY]

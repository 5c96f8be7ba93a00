"""Describes routes, once for routing, authentication, validation and the OpenAPI document."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPMethod
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.config import NATIVE
from firmtrail.http import scalars
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import (
    DeviceAccess,
    GatewayAccess,
    LocalAccess,
    MemberAccess,
    PageAccess,
    RouteAccess,
    UserAccess,
)
from firmtrail.http.errors import Problem
from firmtrail.rules import version

SINGLE_BODY_BYTES_MAX = 64 * 1024
ARRAY_BODY_BYTES_MAX = 4 * 1024 * 1024


class AnyOf(NamedTuple):
    """Stands for an answer of one of several types; msgspec encodes each, but has no such type."""

    contents: tuple[Any, ...]


class ListOf(NamedTuple):
    """Stands for an answer that is an array of this content."""

    content: Any


type Handler = Callable[[AnyCall], Awaitable[web.StreamResponse]]
type ShowsProblem = Callable[[AnyCall, Problem], web.Response]
type Content = Any
"""The content of an answer: types that msgspec encodes to JSON, a media type, or None."""


class NoQuery(msgspec.Struct, frozen=True):
    """Takes no query parameters."""


_REFUSED_TO: Mapping[type, frozenset[int]] = {
    UserAccess: frozenset({401, 403, 429, 503}),
    MemberAccess: frozenset({308, 401, 403, 404, 429, 503}),
    GatewayAccess: frozenset({308, 401, 403, 404, 429, 503}),
    DeviceAccess: frozenset({308, 401, 403, 404, 429, 503}),
    LocalAccess: frozenset({308, 503}),
    PageAccess: frozenset({308, 401, 403, 404, 429, 503}),
}
"""The refusals that follow from the callers that a route admits."""


class PathName(NamedTuple):
    """Holds the pattern that checks a name in a path, and the type that documents it."""

    pattern: str
    documented_as: Any


PATH_NAMES = {
    "project": PathName(scalars.PROJECT_PATTERN, scalars.ProjectName),
    "tenant": PathName(scalars.TENANT_PATTERN, scalars.TenantName),
    "device": PathName(scalars.DEVICE_PATTERN, scalars.DeviceName),
    "position": PathName(scalars.POSITION_PATTERN, scalars.Id),
    "number": PathName(scalars.LOG_NUMBER_PATTERN, scalars.LogNumber),
    "level": PathName(scalars.TILE_LEVEL_PATTERN, scalars.TileLevel),
    "tile": PathName(scalars.TILE_PATTERN, scalars.TilePath),
    "model": PathName(scalars.NAME_PATTERN, scalars.Name),
    "version": PathName(version.PATTERN, scalars.VersionText),
    "name": PathName(scalars.NAME_PATTERN, scalars.Name),
    "deployment": PathName(scalars.DEPLOYMENT_PATTERN, scalars.DeploymentId),
    "sha256": PathName(scalars.SHA256_PATTERN, scalars.Sha256),
}
"""The names that paths contain; every other name is an id."""


def path_names(path: str) -> dict[str, PathName]:
    """Returns the names in the path, in their order."""
    an_id = PathName(scalars.ID_PATTERN, scalars.Id)
    return {name: PATH_NAMES.get(name, an_id) for name in re.findall(r"{(\w+)}", path)}


@dataclass(frozen=True, kw_only=True)
class Route:
    """Describes one method on one path."""

    method: HTTPMethod
    path: str
    """The path below the root, with {names} for its parameters."""
    handler: Handler
    access: RouteAccess
    summary: str
    answers: Mapping[int, Content]
    """The answers that are not problems, by status."""
    protocol: str = NATIVE
    """The protocol that its clients speak; `protocols/__init__.py` sets it for those of others."""
    query: type[msgspec.Struct] = NoQuery
    body: Any = None
    """The Struct, or `Struct | list[Struct]`, that the JSON body is decoded to; None: no body."""
    array_items_max: int = 1_000
    body_bytes_max: int = SINGLE_BODY_BYTES_MAX
    """Limits the body, if it is no array."""
    takes_any_text: bool = False
    """A character that no text may contain is read as a space, because its client reads no
    faults."""
    is_raw: bool = False
    """The handler reads query and body itself, as the seed's routes do, whose texts differ."""
    takes_any_query: bool = False
    """Its clients add parameters of their own: those that `query` does not name are ignored."""
    takes_bytes: bool = False
    """The body is not JSON: the handler reads the bytes as they arrive."""
    skips_faulty: bool = False
    """With `faulty=skip` the handler gets malformed items of an array as `FaultyItem`."""
    is_view: bool = False
    """Its answers name the size of the log that they were read from."""
    reads_log_only: bool = False
    """Its answers follow from the log and its checkpoints, so it needs no views."""
    reads_standby: bool = False
    """A standby may answer the reads by `call.db` of its handler, if the server has a standby."""
    is_download: bool = False
    """Its clients count an error as a failed update, but continue a download that broke off: an
    error of the moment breaks the connection, from the check of the credential on."""
    is_endless: bool = False
    """Its answer ends only when the client or the server ends it."""
    is_polled: bool = False
    """All its answers say when to call again."""
    takes_key: bool = False
    """It accepts an Idempotency-Key."""
    refusals: Collection[int] = frozenset()
    """The statuses of refusals by the rules."""
    other_media: tuple[str, ...] = ()
    """The media types that Accept can ask for instead of JSON."""
    sends: tuple[str, ...] = ()
    """The headers of its answers that do not follow from its other fields."""
    form: type[msgspec.Struct] | None = None
    """The Struct that the fields of a page's form are decoded to; None: it takes no form."""
    shows_problem: ShowsProblem | None = None
    """Shows a problem as a page; None: a problem is JSON."""

    @property
    def is_of_devices(self) -> bool:
        """Returns whether devices call it, themselves or through a gateway."""
        return isinstance(self.access, DeviceAccess | GatewayAccess)

    @property
    def is_resource(self) -> bool:
        """Returns whether its answer has an ETag."""
        return self.method is HTTPMethod.GET and 304 in self.answers

    @property
    def is_list(self) -> bool:
        return "cursor" in self.query.__struct_fields__

    def problems(self) -> list[int]:
        """Returns every status of a problem that it can answer with."""
        if self.is_raw:
            of_body = {400, 403, 408, 413, 415} if self.method is HTTPMethod.POST else set()
            return sorted({429, 503, *of_body, *self.refusals})
        statuses = {*self.refusals, *_REFUSED_TO.get(type(self.access), ())}
        if self.method is not HTTPMethod.GET:
            statuses |= {400, 403}
        if self.body is not None or self.takes_bytes:
            statuses |= {400, 408, 413, 415, 422}
        if self.takes_key:
            statuses |= {400, 409, 413, 415}
        if self.is_list:
            statuses.add(400)
        if self.method is HTTPMethod.PATCH:
            statuses.add(412)
        broken_off = {429, 503} if self.is_download else set()
        return sorted((statuses | {422}) - broken_off)

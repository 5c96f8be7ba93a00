"""What is a route? The one description that routing, auth, validation and documents are made of."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from firmtrail.http.call import AnyCall
from firmtrail.http.callers import (
    DeviceAccess,
    GatewayAccess,
    LocalAccess,
    MemberAccess,
    RouteAccess,
    UserAccess,
)

SINGLE_BODY_BYTES_MAX = 64 * 1024
ARRAY_BODY_BYTES_MAX = 4 * 1024 * 1024


class AnyOf(NamedTuple):
    """An answer that is one of several; msgspec encodes each, and knows no such type itself."""

    contents: tuple[Any, ...]


class ListOf(NamedTuple):
    """An answer that is an array of such."""

    content: Any


type Handler = Callable[[AnyCall], Awaitable[web.StreamResponse]]
type Content = Any
"""What an answer holds: a type that msgspec encodes to JSON, or several; a media type; or None."""


class NoQuery(msgspec.Struct, frozen=True):
    """The route takes no query parameters."""


_REFUSED_TO: Mapping[type, frozenset[int]] = {
    UserAccess: frozenset({401, 403, 429, 503}),
    MemberAccess: frozenset({401, 403, 404, 429, 503}),
    GatewayAccess: frozenset({401, 403, 404, 429, 503}),
    DeviceAccess: frozenset({401, 403, 404, 429, 503}),
    LocalAccess: frozenset({503}),
}
"""Statuses that follow from who may call a route."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method on one path."""

    method: HTTPMethod
    path: str
    """Below the root, with {names} for its parameters."""
    handler: Handler
    access: RouteAccess
    group: str
    summary: str
    answers: Mapping[int, Content]
    """The answers that are no problem."""
    query: type[msgspec.Struct] = NoQuery
    body: Any = None
    """The Struct, or `Struct | list[Struct]`, that the JSON body is read as; None: no body."""
    array_items_max: int = 1_000
    is_raw: bool = False
    """The handler reads query and body itself: the seed's routes, whose answers have own texts."""
    takes_bytes: bool = False
    """Its body is no JSON: the handler reads the bytes as they come."""
    skips_faulty: bool = False
    """With `faulty=skip` the handler gets faulty items of an array as `Faulty`."""
    is_view: bool = False
    """Its answers say how far the log was read."""
    is_endless: bool = False
    """Its answer ends when the client or the server does."""
    is_polled: bool = False
    """Its answers, whatever they are, say when to call again."""
    takes_key: bool = False
    """An Idempotency-Key counts."""
    refusals: frozenset[int] = field(default_factory=frozenset)
    """Statuses of the rules' own refusals."""
    other_media: tuple[str, ...] = ()
    """What Accept can ask for beside JSON."""
    sends: tuple[str, ...] = ()
    """Headers of its answers that do not follow from the rest of it."""

    @property
    def is_resource(self) -> bool:
        """Whether its answer has an ETag."""
        return self.method is HTTPMethod.GET and 304 in self.answers

    @property
    def is_list(self) -> bool:
        """Whether its answer is a page of a list."""
        return "cursor" in self.query.__struct_fields__

    def problems(self) -> list[int]:
        """Every status of a problem that it can answer."""
        if self.is_raw:
            of_body = {400, 403, 408, 413, 415} if self.method is HTTPMethod.POST else set()
            return sorted({429, 503} | of_body | self.refusals)
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
        return sorted(statuses | {422})

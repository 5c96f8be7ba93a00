"""Builds the rows of the pages' routes in short form, and names what most rows share.

A page is a GET whose answer is HTML; an action is a POST of a form, which answers with a redirect
to a page. Both show their problems as pages. A page of a project takes `as_of`. If the page has no
past, it says so instead of showing the present.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from http import HTTPMethod
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from firmtrail.console import problems, render
from firmtrail.http.call import AnyCall
from firmtrail.http.callers import PageAccess, Permission, RouteAccess
from firmtrail.http.route import Content, Handler, Route
from firmtrail.http.scalars import AsOf

CONSOLE = "/console"
PROJECT = f"{CONSOLE}/{{project}}"
"""The path of a project's first page; the paths of its other pages begin with it."""

READ = PageAccess(Permission.READ)
OPERATE = PageAccess(Permission.OPERATE)
AUDIT = PageAccess(Permission.AUDIT)
ADMINISTER = PageAccess(Permission.ADMINISTER)
SIGNED_IN = PageAccess()
"""Admits anybody that is signed in, to a page of no project."""

HTML = "text/html"

type PartName = Annotated[str, Meta(pattern=r"^[a-z_]{1,32}$(?!\n)", description="a part's name")]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses a moment of the past, or one part of the page to show instead of all of it."""

    as_of: AsOf | None = None
    part: PartName | None = None


class NoFields(msgspec.Struct, frozen=True):
    """Takes a form without fields."""


def page(
    path: str,
    handler: Handler,
    access: RouteAccess = READ,
    *,
    has_past: bool = False,
    answers: Mapping[int, Content] | None = None,
    **fields: Any,
) -> Route:
    """Describes a page. Its `query` is a `PageQuery`, unless the row names another one."""
    query: type[msgspec.Struct] = fields.pop("query", PageQuery)
    if not has_past and issubclass(query, PageQuery):
        handler = _without_past(handler)
    return Route(
        method=HTTPMethod.GET,
        path=path,
        handler=handler,
        access=access,
        summary=_summary(handler),
        answers=answers or {200: HTML, 304: None},
        query=query,
        shows_problem=problems.shown,
        reads_standby=True,
        **fields,
    )


def action(
    path: str,
    handler: Handler,
    access: RouteAccess = OPERATE,
    *,
    form: type[msgspec.Struct] | None = NoFields,
    **fields: Any,
) -> Route:
    """Describes what a form of a page does. It answers with a redirect to a page."""
    defaults: dict[str, Any] = {"answers": {303: None}, "method": HTTPMethod.POST}
    return Route(
        path=path,
        handler=handler,
        access=access,
        summary=_summary(handler),
        form=form,
        shows_problem=problems.shown,
        **(defaults | fields),
    )


def _summary(handler: Handler) -> str:
    return (handler.__doc__ or "").partition("\n")[0]


def _without_past(handler: Handler) -> Callable[[AnyCall], Awaitable[web.StreamResponse]]:
    @wraps(handler)
    async def handle(call: AnyCall) -> web.StreamResponse:
        if call.query.as_of is None:
            return await handler(call)
        return render.page(call, "no_past.html", title="No past")

    return handle

"""Leads from the bar under the header to a page as of the moment that a person chose there."""

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta
from yarl import URL

from firmtrail.console.moments import PageTime, as_time
from firmtrail.console.rows import PROJECT, page
from firmtrail.eventstore import log
from firmtrail.http.call import Call
from firmtrail.http.respond import NO_STORE
from firmtrail.http.scalars import Position

NOT_KEPT = frozenset({"as_of", "part", "below", "cursor"})
"""Parameters of a page that do not belong to another moment of it."""

type PagePath = Annotated[
    str, Meta(pattern=r"^/[!-~]{0,2000}$(?!\n)", description="the path of a page, with its query")
]


class MomentQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Chooses a page of the project and a moment: a size of the log, or else a time."""

    page: PagePath
    position: Position | None = None
    when: PageTime | None = None


async def get_moment(call: Call[MomentQuery, None]) -> web.Response:
    """Lead to a page of the project as of a moment."""
    query, size = call.query, (await log.head(call.db, call.log_id)).size
    as_of = as_time("when", query.when)
    if as_of is None and query.position is not None and query.position < size:
        as_of = f"@{query.position}"
    location = _location(query.page, f"{call.prefix}/console/{call.project}", as_of)
    return web.Response(status=303, headers={**NO_STORE, "Location": location})


def _location(wanted: str, project: str, as_of: str | None) -> str:
    """Returns the address of the page as of the moment. A path that is not a page of the project
    leads to its first page, so that no link leads elsewhere."""
    url = _url(wanted)
    is_below = f"{url.path}/".startswith(f"{project}/") and ".." not in url.path.split("/")
    is_own = is_below and not url.is_absolute()
    query = [(name, text) for name, text in url.query.items() if name not in NOT_KEPT]
    if as_of is not None:
        query.append(("as_of", as_of))
    path = url.raw_path if is_own else project
    return f"{path}?{urlencode(query)}" if query else path


def _url(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        return URL()


ROUTES = (page(f"{PROJECT}/moment", get_moment, query=MomentQuery, answers={303: None}),)

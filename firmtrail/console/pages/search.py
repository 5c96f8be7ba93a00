"""Leads from what a person types to the page that it names, or to at most ten matches."""

import msgspec
from aiohttp import web

from firmtrail.console import render
from firmtrail.console.here import Here, Moment, here_of
from firmtrail.console.moments import past_of
from firmtrail.console.rows import HTML, PROJECT, PageQuery, page
from firmtrail.eventstore import log
from firmtrail.http import search
from firmtrail.http.call import Call
from firmtrail.http.scalars import SearchText
from firmtrail.http.search import Match


class FindQuery(PageQuery, frozen=True, kw_only=True):
    """Gives the beginning of a name."""

    q: SearchText | None = None


class ShownMatch(msgspec.Struct, frozen=True):
    """Holds a match, and the address of its page."""

    match: Match
    url: str


async def get_search(call: Call[FindQuery, None]) -> web.Response:
    """Lead to what the text names, or show what begins with it."""
    text = call.query.q or ""
    past = await past_of(call)
    head = await log.head(call.db, call.log_id)
    size, found = await search.matches(call, text, past.stop) if text else (head.size, [])
    here = here_of(call, None)
    shown = [ShownMatch(each, url_of(here, each, head.number)) for each in found]
    if call.query.part is None and (only := _meant(shown)):
        return render.to(only.url)
    return render.page(
        call, "search.html", title="Search", moment=Moment(size, *past), text=text, matches=shown
    )


def _meant(shown: list[ShownMatch]) -> ShownMatch | None:
    """Returns the only match, or the only one whose whole name was given."""
    exact = [each for each in shown if each.match.exact] or shown
    return exact[0] if len(exact) == 1 else None


def url_of(here: Here, match: Match, number: int) -> str:
    """Returns the address of the page of a match; `number` is that of the log."""
    match match.kind:
        case "device":
            return here.url("devices", match.name)
        case "release":
            return here.url("releases", match.model, match.name)
        case "version":
            return here.url("devices", model=match.model, version=match.name)
        case "rollout":
            return here.url("rollouts", match.name)
        case "position":
            return here.url("log", number, match.name)


ROUTES = (
    page(
        f"{PROJECT}/search",
        get_search,
        query=FindQuery,
        has_past=True,
        answers={200: HTML, 303: None, 304: None},
        is_view=True,
    ),
)

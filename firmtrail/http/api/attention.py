"""Serves what needs a person's attention in a project, and the search for a name."""

import msgspec
from aiohttp import web

from firmtrail.http import attention, respond, search
from firmtrail.http.api.rows import READ, P, resource
from firmtrail.http.attention import Note
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.respond import LOG_SIZE
from firmtrail.http.scalars import SearchText
from firmtrail.http.search import Match


class Attention(msgspec.Struct, frozen=True):
    """Lists what needs attention, the most serious first."""

    items: list[Note]


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Gives the beginning of the name that is looked for."""

    q: SearchText


class Matches(msgspec.Struct, frozen=True):
    """Lists at most ten things whose names begin with the text, exact matches first."""

    items: list[Match]


async def get_attention(call: AnyCall) -> web.Response:
    """List what needs a person's attention: halts, paused rollouts, failing devices, faults."""
    size, notes = await attention.notes(call)
    return respond.resource(call, Attention(notes), size)


async def get_search(call: Call[SearchQuery, None]) -> web.Response:
    """Find devices, releases, versions, rollouts and positions by the beginning of their names."""
    size, found = await search.matches(call, call.query.q)
    return respond.resource(call, Matches(found), size)


ROUTES = (
    resource(f"{P}/attention", get_attention, READ, Attention, sends=(LOG_SIZE,)),
    resource(f"{P}/search", get_search, READ, Matches, query=SearchQuery, is_view=True),
)

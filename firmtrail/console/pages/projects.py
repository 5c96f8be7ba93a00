"""Shows the projects that a person is a member of."""

import msgspec
from aiohttp import web

from firmtrail.access import projects, tokens
from firmtrail.access.projects import ProjectRow
from firmtrail.console import render
from firmtrail.console.rows import CONSOLE, page
from firmtrail.http.call import Call
from firmtrail.http.callers import USER
from firmtrail.http.scalars import ProjectName

SHOWN_MAX = 200


class ProjectsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Continues the list after a project."""

    after: ProjectName | None = None


type ProjectsCall = Call[ProjectsQuery, None]


async def get_projects(call: ProjectsCall) -> web.Response:
    """Show the projects that the caller is a member of."""
    rows = await _rows(call)
    after = rows[SHOWN_MAX - 1].project if len(rows) > SHOWN_MAX else None
    return render.page(
        call, "projects.html", title="Projects", projects=rows[:SHOWN_MAX], after=after
    )


async def _rows(call: ProjectsCall) -> list[ProjectRow]:
    db, caller, after = call.services.db, call.caller, call.query.after or ""
    if caller.kind == "system":
        return await projects.page(db, after=after, limit=SHOWN_MAX + 1)
    only = None if caller.token_id is None else (await tokens.scope(db, caller.token_id)).project
    return await projects.page_of_member(
        db, str(caller.actor_id), only, after=after, limit=SHOWN_MAX + 1
    )


ROUTES = (page(CONSOLE, get_projects, USER, query=ProjectsQuery),)

"""Shows the projects that a person is a member of."""

import msgspec
from aiohttp import web

from firmtrail.access import projects
from firmtrail.access.projects import ProjectRow
from firmtrail.console import render
from firmtrail.console.rows import CONSOLE, SIGNED_IN, page
from firmtrail.http.call import Call
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
    db, actor_id, after = call.db, str(call.caller.actor_id), call.query.after or ""
    return await projects.page_of_member(db, actor_id, None, after=after, limit=SHOWN_MAX + 1)


ROUTES = (page(CONSOLE, get_projects, SIGNED_IN, query=ProjectsQuery),)

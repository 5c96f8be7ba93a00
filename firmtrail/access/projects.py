"""Creates and lists projects. Holds all SQL that changes `projects`."""

from typing import NamedTuple

from firmtrail.access.roles import Role
from firmtrail.database.database import Database, Reader, Statement


class ProjectRow(NamedTuple):
    """Holds a project as the list of projects shows it."""

    project: str
    log_id: int
    created_at_ms: int
    role: Role | None
    """The role of the user that the list is for; None in the list of all projects."""


_RESERVE = """\
INSERT INTO projects (project, log_id, created_at_ms)
VALUES ($1, 0, now_ms())
ON CONFLICT (project) DO NOTHING
RETURNING project"""

_SET_LOG = "UPDATE projects SET log_id = $2 WHERE project = $1"

_ALL = """\
SELECT project, log_id, created_at_ms, NULL
FROM projects
WHERE project > $1 AND log_id > 0
ORDER BY project
LIMIT $2"""

_ONE = "SELECT 1 FROM projects WHERE project = $1 AND log_id > 0 LIMIT 1"

_FROM_MEMBER = """\
FROM members
JOIN projects ON projects.project = members.project
WHERE members.actor_id = $1
    AND members.role IS NOT NULL
    AND members.project = coalesce(CAST($2 AS text), members.project)"""

_OF_MEMBER = f"""\
SELECT projects.project, projects.log_id, projects.created_at_ms, members.role
{_FROM_MEMBER} AND projects.project > $3
ORDER BY projects.project
LIMIT $4"""

_COUNT = "SELECT count(*) FROM projects WHERE log_id > 0"

_ARRIVE = """\
INSERT INTO projects (project, log_id, created_at_ms)
VALUES ($1, $2, $3)
ON CONFLICT (project) DO UPDATE
SET log_id = excluded.log_id, created_at_ms = excluded.created_at_ms
WHERE projects.log_id = 0
RETURNING project"""

_NEWEST = "SELECT log_id, created_at_ms FROM projects WHERE project = $1"

_COUNT_OF_MEMBER = f"SELECT count(*) {_FROM_MEMBER}"


def reserve(project: str) -> Statement:
    """Reserves the name, before the project has a log; gives no row if the name is taken."""
    return Statement(_RESERVE, (project,))


def set_log(project: str, log_id: int) -> Statement:
    """Makes this log, the project's newest, the one that the project writes to."""
    return Statement(_SET_LOG, (project, log_id))


def arrive(project: str, log_id: int, created_at_ms: int) -> Statement:
    """Adds a project that was moved here; gives no row if the name is taken. A name that a move
    reserved is not."""
    return Statement(_ARRIVE, (project, log_id, created_at_ms))


def leave(project: str) -> Statement:
    """Undoes `arrive`: the name stays reserved and has no log, so there is no such project."""
    return set_log(project, 0)


async def newest_log(db: Reader, project: str) -> tuple[int, int] | None:
    """Returns the project's newest log, and when the project was created; None: there is none."""
    for log_id, created_at_ms in await db.read(Statement(_NEWEST, (project,))):
        return (log_id, created_at_ms) if log_id else None
    return None


def one(project: str) -> Statement:
    """Gives a row if there is such a project."""
    return Statement(_ONE, (project,))


async def is_there(db: Database, project: str) -> bool:

    return bool(await db.read(one(project)))


async def page(db: Reader, *, after: str = "", limit: int) -> list[ProjectRow]:
    """Returns the projects whose names follow `after`, ordered by name."""
    return [ProjectRow(*row) for row in await db.read(Statement(_ALL, (after, limit)))]


async def page_of_member(
    db: Reader, actor_id: str, only: str | None, *, after: str = "", limit: int
) -> list[ProjectRow]:
    """Returns the projects of the user that follow `after`, by name; or of them the one `only`."""
    rows = await db.read(Statement(_OF_MEMBER, (actor_id, only, after, limit)))
    return [ProjectRow(*row) for row in rows]


async def count(db: Reader) -> int:

    [[projects]] = await db.read(Statement(_COUNT))
    return int(projects)


async def count_of_member(db: Reader, actor_id: str, only: str | None) -> int:
    """Returns how many projects all pages of `page_of_member` have."""
    [[projects]] = await db.read(Statement(_COUNT_OF_MEMBER, (actor_id, only)))
    return int(projects)

"""Which logs does a project have in a database, and do their heads agree with each other?"""

from typing import NamedTuple

from firmtrail.audit.finding import Findings
from firmtrail.database.database import Database, Reader, Statement
from firmtrail.publishing.checkpoint import origin

_LOGS = """\
SELECT log_id, number, closed
FROM log_heads
WHERE project = $1
ORDER BY number
LIMIT 100000"""

_NEWEST = """\
SELECT log_id
FROM projects
WHERE project = $1
LIMIT 1"""


class Log(NamedTuple):
    """A log of the audited database."""

    db: Database
    log_id: int
    project: str
    number: int
    name: str
    """Its origin, by which findings call it."""


async def of_project(db: Database, instance: str, project: str, findings: Findings) -> list[Log]:
    """The project's logs, the oldest first; none where there is no such project.

    Adds to `findings` where another one than the newest is open, and where the project writes to
    another. Numbers may have gaps: a log that was lost as a whole takes its number with it.
    """
    async with db.snapshot() as snapshot:
        rows = await snapshot.read(Statement(_LOGS, (project,)))
        newest = await _newest(snapshot, project)
    if newest is None and not rows:
        return []
    if newest not in {log_id for log_id, _, _ in rows}:
        what = f"is {newest}, and no log of the project is that"
        findings.add(f"{instance}/{project}", "projects (log_id)", what)
    for log_id, number, closed in rows:
        name = origin(instance, project, number)
        if closed != (log_id != rows[-1][0]):
            findings.add(name, "log_heads (closed)", f"is {closed}: the newest log alone is open")
        if number == rows[-1][1] and log_id != newest:
            findings.add(name, "projects (log_id)", f"is {newest}, the newest log is {log_id}")
    return [
        Log(db, log_id, project, number, origin(instance, project, number))
        for log_id, number, _ in rows
    ]


async def _newest(snapshot: Reader, project: str) -> int | None:
    rows = await snapshot.read(Statement(_NEWEST, (project,)))
    return int(rows[0][0]) if rows else None

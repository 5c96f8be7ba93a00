"""Lists a project's logs in a database, and checks that their heads agree with each other."""

from typing import NamedTuple

from firmtrail.audit.finding import Findings
from firmtrail.database.database import Database, Statement
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


class AuditedLog(NamedTuple):
    """Names a log of the audited database."""

    db: Database
    log_id: int
    project: str
    number: int
    name: str
    """The log's origin, as findings show it."""


async def of_project(
    db: Database, instance: str, project: str, findings: Findings
) -> list[AuditedLog]:
    """Returns the project's logs, the oldest first. It is a finding if a log other than the newest
    is open, or is the one that the project writes to. Numbers may have gaps: a lost log takes its
    number with it."""
    async with db.snapshot() as snapshot:
        rows = await snapshot.read(Statement(_LOGS, (project,)))
        found = await snapshot.read(Statement(_NEWEST, (project,)))
    newest = found[0][0] if found else None
    if newest is None and not rows:
        return []
    if newest not in {log_id for log_id, _, _ in rows}:
        what = f"is {newest}, which is not a log of the project"
        findings.add(f"{instance}/{project}", "projects (log_id)", what)
    for log_id, number, closed in rows:
        name = origin(instance, project, number)
        if closed != (log_id != rows[-1][0]):
            what = f"is {closed}, but only the newest log is open"
            findings.add(name, "log_heads (closed)", what)
        if number == rows[-1][1] and log_id != newest:
            what = f"is {newest}, but the newest log is {log_id}"
            findings.add(name, "projects (log_id)", what)
    return [
        AuditedLog(db, log_id, project, number, origin(instance, project, number))
        for log_id, number, _ in rows
    ]

"""Lists a project's logs in a database, and checks that their heads agree with each other."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from firmtrail.audit.finding import Findings
from firmtrail.database.database import Database, Reader, Statement
from firmtrail.events.log import ProjectArrived
from firmtrail.eventstore import moving
from firmtrail.publishing import arrivals
from firmtrail.publishing.checkpoint import BadNote, Verifier, origin
from firmtrail.publishing.minimum_sizes import LogName

_LOGS = """\
SELECT
    log_heads.log_id, log_heads.number, log_heads.closed, last.entry
FROM log_heads
LEFT JOIN events AS last
    ON last.log_id = log_heads.log_id AND last.position = log_heads.size - 1
WHERE log_heads.project = $1
ORDER BY log_heads.number
LIMIT 100000"""

_NEWEST = """\
SELECT log_id
FROM projects
WHERE project = $1
LIMIT 1"""

_MOVE = '"type":"firmtrail.ProjectMoveStarted.v'
_UNDONE = '"type":"firmtrail.ProjectMoveUndone.v'
"""The entry of a move, or of its end, contains this, and no other entry does: names have no such
quotes."""


class AuditedLog(NamedTuple):
    """Names a log of the audited database."""

    db: Database
    log_id: int
    project: str
    number: int
    name: str
    """The log's origin, as findings show it."""
    key: Verifier | None = None
    """The key of a log that was moved here from another instance."""
    has_views: bool = True
    """Whether the views of the log are here. Those of a moved log stayed where it was."""


class _LogRow(NamedTuple):
    log_id: int
    number: int
    closed: int
    last_entry: str | None

    @property
    def is_given_up(self) -> bool:
        """Returns whether it is the log of an arrival that was undone."""
        return self.closed == moving.GIVEN_UP and _UNDONE in (self.last_entry or "")


async def of_project(
    db: Database, instance: str, project: str, findings: Findings
) -> list[AuditedLog]:
    """Returns the project's logs, the oldest first. It is a finding if a log other than the newest
    is open, or is the one that the project writes to. The newest is closed only if it says that the
    project is moved. Numbers may have gaps: a lost log takes its number with it."""
    async with db.snapshot() as snapshot:
        rows = [_LogRow(*row) for row in await snapshot.read(Statement(_LOGS, (project,)))]
        found = await snapshot.read(Statement(_NEWEST, (project,)))
        arrived = await _arrivals(snapshot, f"{instance}/{project}", project, findings)
    newest = found[0][0] if found else None
    if not newest and (not rows or rows[-1].is_given_up):
        return []
    if newest not in {row.log_id for row in rows}:
        what = f"is {newest}, which is not a log of the project"
        findings.add(f"{instance}/{project}", "projects (log_id)", what)
    keys = {row.number: arrivals.key_of(LogName(project, row.number), arrived) for row in rows}
    logs = [
        AuditedLog(
            *(db, row.log_id, project, row.number),
            origin(instance, project, row.number) if key is None else key.name,
            key,
            key is None and not row.is_given_up,
        )
        for row, key in zip(rows, keys.values(), strict=True)
    ]
    _check(logs, rows, newest, findings)
    return logs


async def _arrivals(
    snapshot: Reader, name: str, project: str, findings: Findings
) -> Sequence[ProjectArrived]:
    try:
        return await arrivals.of_project(snapshot, project)
    except (msgspec.MsgspecError, ValueError, KeyError, BadNote) as error:
        findings.add(name, f"position {arrivals.POSITION}", f"the arrival is unreadable: {error}")
        return []


def _check(
    logs: Sequence[AuditedLog], rows: Sequence[_LogRow], newest: int | None, findings: Findings
) -> None:
    for log, row in zip(logs, rows, strict=True):
        if row.closed not in _allowed(row, is_newest=row is rows[-1]):
            what = f"is {row.closed}, but only the newest log is open"
            findings.add(log.name, "log_heads (closed)", what)
        if row is rows[-1] and row.log_id != newest:
            what = f"is {newest}, but the newest log is {row.log_id}"
            findings.add(log.name, "projects (log_id)", what)


def _allowed(row: _LogRow, *, is_newest: bool) -> set[int]:
    """Returns what `closed` may be in the head of a log."""
    if not is_newest:
        return {moving.GIVEN_UP} if row.is_given_up else {moving.CLOSED}
    if _MOVE in (row.last_entry or ""):
        return {moving.CLOSED, moving.MOVED}
    return {moving.OPEN}

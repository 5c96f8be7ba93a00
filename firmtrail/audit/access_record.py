"""Compares a project's access record with the heads of its chain that the log holds.

Each `AccessRecordSealed` holds the number of rows and the head that they chain to. A row below that
number that was changed, removed, added or moved gives another head or a gap. The rows after the
last seal are compared with `access_heads`, which a person with write access to the database can
change as well. `AccessRecordTrimmed` says that the rows up to a seal are deleted: then the chain
begins with the head of that seal.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.finding import Findings, ProjectAudit
from firmtrail.audit.logs import AuditedLog
from firmtrail.database.database import Row, Statement
from firmtrail.events.log import AccessRecordSealed, AccessRecordTrimmed
from firmtrail.eventstore import chain, short_streams

TABLE = "access_record"

_PAGE = """\
SELECT seq, project, at_ms, request_id, actor, path, asked, address
FROM access_record
WHERE project = $1 AND seq > $2
ORDER BY seq
LIMIT $3"""

_OUTSIDE = """\
SELECT request_id
FROM access_record
WHERE project = $1 AND (seq IS NULL OR seq < 0)
ORDER BY request_id
LIMIT 100"""

_TRIMMED = """\
SELECT seq
FROM access_record
WHERE project = $1 AND seq >= 0 AND seq < $2
ORDER BY seq
LIMIT 1"""

_HEAD = """\
SELECT size, head, sealed
FROM access_heads
WHERE project = $1
LIMIT 1"""


class ExpectedHead(NamedTuple):
    """Says that the chain has this head at this size."""

    size: int
    head: str
    source: str
    """The table or the position in the log that says so."""


async def verify(name: str, project: str, logs: Iterable[AuditedLog], findings: Findings) -> None:
    """Checks all rows of the project's access record. Findings show the project as `name`. The
    record may grow meanwhile, so the expected heads are read before the rows."""
    logs = list(logs)
    if not logs:
        return
    audit = ProjectAudit(logs[0].db, project, name, findings)
    expected, start = await _seals(audit, logs)
    expected += await _stored_head(audit, expected)
    for [request_id] in await audit.db.read(Statement(_OUTSIDE, (project,))):
        audit.add(f"{TABLE} (request {request_id})", "the row has no position in the chain")
    await _find_trimmed(audit, start)
    await _compare(audit, sorted(expected, key=lambda head: head.size), start)


async def _seals(
    audit: ProjectAudit, logs: Iterable[AuditedLog]
) -> tuple[list[ExpectedHead], ExpectedHead]:
    """Returns the sealed heads, and the one where the chain begins: after the deleted rows."""
    seals: dict[int, ExpectedHead] = {0: ExpectedHead(0, chain.START, "the beginning")}
    found, start = [], seals[0]
    async for event, source in _events(audit, logs):
        if isinstance(event, AccessRecordSealed):
            found.append(ExpectedHead(event.size, event.head, source))
            seals.setdefault(event.size, found[-1])
        elif event.size not in seals:
            audit.add(source, f"says that {event.size} rows are deleted, which no seal covers")
        elif event.size > start.size:
            start = seals[event.size]._replace(source=source)
    return found, start


async def _events(
    audit: ProjectAudit, logs: Iterable[AuditedLog]
) -> AsyncIterator[tuple[AccessRecordSealed | AccessRecordTrimmed, str]]:
    """Yields what the logs say about the record, each with its place."""
    for log in logs:
        stream = f"access-record/{audit.project}"
        for position, _, text in await log.db.read(short_streams.of_stream(log.log_id, stream)):
            event = rows.decoded(position, text)
            if isinstance(event, AccessRecordSealed | AccessRecordTrimmed):
                yield event, f"{log.name} position {position}"


async def _find_trimmed(audit: ProjectAudit, start: ExpectedHead) -> None:
    """Adds a finding for rows that are there although the log says that they are deleted."""
    for [seq] in await audit.db.read(Statement(_TRIMMED, (audit.project, start.size))):
        what = f"is there, but {start.source} says that it is deleted: trim the record again"
        audit.add(f"{TABLE} (row {seq})", what)


async def _stored_head(audit: ProjectAudit, seals: list[ExpectedHead]) -> list[ExpectedHead]:
    """Returns the head in `access_heads`; none if it contradicts the seals."""
    found = await audit.db.read(Statement(_HEAD, (audit.project,)))
    last = max((seal.size for seal in seals), default=0)
    if not found:
        if last:
            audit.add("access_heads", f"is missing, but the log sealed {last} rows")
        return [ExpectedHead(0, chain.START, "access_heads")]
    [[size, head, sealed]] = found
    if not isinstance(size, int) or not isinstance(sealed, int) or not last <= size:
        audit.add("access_heads (size)", f"is {size!r}, but the log sealed {last} rows")
        return []
    if sealed > last:
        audit.add("access_heads (sealed)", f"is {sealed}, but the log sealed {last} rows")
    return [ExpectedHead(size, head, "access_heads")]


class _Chain:
    """Computes the chain from the rows, and compares it with the expected heads."""

    def __init__(
        self, audit: ProjectAudit, expected: list[ExpectedHead], start: ExpectedHead
    ) -> None:
        self._audit = audit
        self.expected = deque(each for each in expected if each.size >= start.size)
        self.size = self._verified_size = start.size
        self._head = start.head

    def add(self, row: Row) -> None:
        self._head, self.size = chain.extended(self._head, [row]), self.size + 1
        self.check()

    def check(self) -> None:
        """Compares with the expected heads of this size; continues from these after a wrong one."""
        while self.expected and self.expected[0].size == self.size:
            expected = self.expected.popleft()
            if self._head != expected.head:
                where = f"{TABLE} ({_span(self._verified_size, expected.size)})"
                self._audit.add(where, f"does not match the head in {expected.source}")
            self._head, self._verified_size = expected.head, expected.size


async def _compare(audit: ProjectAudit, expected: list[ExpectedHead], start: ExpectedHead) -> None:
    found, after = _Chain(audit, expected, start), start.size - 1
    found.check()
    async for row in rows.pages_of_project(audit.db, _PAGE, audit.project, after=after):
        if row[0] != found.size:
            audit.add(f"{TABLE} ({_span(found.size, row[0])})", "is missing")
            return
        found.add(row)
    for head in found.expected:
        what = f"is missing: {head.source} counts {head.size} rows"
        audit.add(f"{TABLE} ({_span(found.size, head.size)})", what)
    stored = await audit.db.read(Statement(_HEAD, (audit.project,)))
    if found.size > (stored[0][0] if stored else 0):
        where = f"{TABLE} ({_span(found.size - 1, found.size)})"
        audit.add(where, "access_heads counts fewer rows")


def _span(start: int, stop: int) -> str:
    return f"row {start}" if stop <= start + 1 else f"rows {start} to {stop - 1}"

"""Compares a project's access record with the heads of its chain that the log holds.

Each `AccessRecordSealed` says to which head the first so many rows chain. A row that was changed,
removed, added or moved before that shows as another head or a missing place. What came after the
last seal is compared with `access_heads`, which somebody who writes to the database can change too.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.database.database import Database, Row, Statement
from firmtrail.events.log import AccessRecordSealed
from firmtrail.eventstore import chain
from firmtrail.eventstore import log as eventlog

PAGE_ROWS = 1_000
TABLE = "access_record"

_PAGE = """\
SELECT seq, project, at_ms, request_id, actor, path, asked, address
FROM access_record
WHERE project = $1 AND seq >= $2
ORDER BY seq
LIMIT $3"""

_OUTSIDE = """\
SELECT request_id
FROM access_record
WHERE project = $1 AND (seq IS NULL OR seq < 0)
ORDER BY request_id
LIMIT 100"""

_HEAD = """\
SELECT size, head, sealed
FROM access_heads
WHERE project = $1
LIMIT 1"""


class Mark(NamedTuple):
    """A head that the chain must have at a size, and who says so."""

    size: int
    head: str
    said_by: str


class _Audit(NamedTuple):
    db: Database
    project: str
    name: str
    findings: Findings

    def add(self, where: str, what: str) -> None:
        self.findings.add(self.name, where, what)


async def verify(name: str, project: str, logs: Iterable[Log], findings: Findings) -> None:
    """Look at all rows of the project's record. `name` is what findings call it.

    The record may grow meanwhile: what must hold is read first, and the rows after it.
    """
    logs = list(logs)
    if not logs:
        return
    audit = _Audit(logs[0].db, project, name, findings)
    marks = [mark async for mark in _seals(audit, logs)]
    marks += await _head(audit, marks)
    for [request_id] in await audit.db.read(Statement(_OUTSIDE, (project,))):
        audit.add(f"{TABLE} (request {request_id})", "the row has no place in the chain")
    await _compare(audit, sorted(marks, key=lambda mark: mark.size))


async def _seals(audit: _Audit, logs: Iterable[Log]) -> AsyncIterator[Mark]:
    for log in logs:
        stream = f"access-record/{audit.project}"
        for position, _, text in await log.db.read(eventlog.of_stream(log.log_id, stream)):
            event = rows.decoded(position, text)
            if isinstance(event, AccessRecordSealed):
                yield Mark(event.size, event.head, f"{log.name} position {position}")


async def _head(audit: _Audit, seals: list[Mark]) -> list[Mark]:
    """Return the head that the database says, where it can be one."""
    found = await audit.db.read(Statement(_HEAD, (audit.project,)))
    last = max((mark.size for mark in seals), default=0)
    if not found:
        if last:
            audit.add("access_heads", f"is missing, and the log sealed {last} rows")
        return [Mark(0, chain.START, "access_heads")]
    [[size, head, sealed]] = found
    if not isinstance(size, int) or not isinstance(sealed, int) or not last <= size:
        audit.add("access_heads (size)", f"is {size!r}, and the log sealed {last} rows")
        return []
    if sealed > last:
        audit.add("access_heads (sealed)", f"is {sealed}, and the log sealed {last} rows")
    return [Mark(size, head, "access_heads")]


class _Chain:
    """The chain as the rows give it, compared with the marks on its way."""

    def __init__(self, audit: _Audit, marks: list[Mark]) -> None:
        self._audit = audit
        self.marks = deque(marks)
        self.size = 0
        self._head = chain.START
        self._good = 0

    def add(self, row: Row) -> None:
        self._head, self.size = chain.extended(self._head, [row]), self.size + 1
        self.check()

    def check(self) -> None:
        """Compare with the marks of this size; after a wrong head the right one counts."""
        while self.marks and self.marks[0].size == self.size:
            mark = self.marks.popleft()
            if self._head != mark.head:
                where = f"{TABLE} ({_span(self._good, mark.size)})"
                self._audit.add(where, f"is not what {mark.said_by} says")
            self._head, self._good = mark.head, mark.size


async def _compare(audit: _Audit, marks: list[Mark]) -> None:
    found = _Chain(audit, marks)
    found.check()
    async for row in _rows(audit):
        if row[0] != found.size:
            audit.add(f"{TABLE} ({_span(found.size, row[0])})", "is missing")
            return
        found.add(row)
    for mark in found.marks:
        what = f"is missing: {mark.said_by} says that there are {mark.size}"
        audit.add(f"{TABLE} ({_span(found.size, mark.size)})", what)
    after = await audit.db.read(Statement(_HEAD, (audit.project,)))
    if found.size > (after[0][0] if after else 0):
        audit.add(f"{TABLE} ({_span(found.size - 1, found.size)})", "access_heads has fewer rows")


async def _rows(audit: _Audit) -> AsyncIterator[Row]:
    after = 0
    while True:
        page = await audit.db.read(Statement(_PAGE, (audit.project, after, PAGE_ROWS)))
        for row in page:
            yield row
        if len(page) < PAGE_ROWS:
            return
        after = page[-1][0] + 1


def _span(start: int, stop: int) -> str:
    return f"row {start}" if stop <= start + 1 else f"rows {start} to {stop - 1}"

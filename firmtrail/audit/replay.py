"""Checks that the views follow from the log: folds it from zero and compares them row by row.

The production fold writes into an embedded scratch database in a temporary folder, whatever the
back end. It needs the memory of one batch. The log may grow meanwhile: the new entries are folded
too, up to the size of a snapshot of the database, and the rows of that snapshot are compared.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from firmtrail.audit import rows
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.database import sqlite
from firmtrail.database.database import Database, Reader, Statement
from firmtrail.database.sqlite import SQLite
from firmtrail.eventstore import lineage, log
from firmtrail.projections import fold
from firmtrail.rebuilding import compare
from firmtrail.rebuilding.compare import Difference
from firmtrail.rebuilding.refold import Views, refold
from firmtrail.recording.recorder import start_log
from firmtrail.schema import migrations

SCRATCH_PROJECT = "scratch"

_VIEWS = """\
SELECT name, revision, generation, position
FROM views
WHERE log_id = $1
ORDER BY name
LIMIT 100"""

SNAPSHOT_BEHIND_EVENTS_MAX = 10_000
"""The most events to fold after the snapshot is opened, so that it is kept for a short time."""

UNFOLDABLE = (log.Corrupt, msgspec.MsgspecError, ValueError, KeyError, AssertionError)
"""The exceptions of reading and folding a damaged log. AssertionError is among them: such a log may
break a rule that every recorded event keeps."""


async def replay(audited: AuditedLog, findings: Findings, advance: AdvanceProgress) -> int:
    """Adds a finding for every row of the live views that the log does not give, and for every row
    that they lack; returns the size that was compared. Raises `Unavailable`.
    """
    db, log_id, name = audited.db, audited.log_id, audited.name
    async with _scratch() as views:
        folding = _Folding(audited, views, findings, advance)
        size = await lineage.first_position(db, log_id)  # below 0 if the log continues others
        while (grown := (await rows.head(db, log_id)).size) - size > SNAPSHOT_BEHIND_EVENTS_MAX:
            if not await _fold(folding, range(size, grown)):
                return size
            size = grown
        async with db.snapshot() as snapshot:
            head = await rows.head(snapshot, log_id)
            if not await _fold(folding, range(size, head.size)):
                return size
            live = await _live(snapshot, audited, head.size, findings)
            expected = views._replace(generations=dict.fromkeys(live, 1))
            found = Views(snapshot, log_id, live)
            async for difference in compare.differences(expected, found):
                findings.add(name, _row(difference), _what(difference))
    return head.size


@contextlib.asynccontextmanager
async def _scratch() -> AsyncIterator[Views[Database]]:
    """Opens the views of an empty log in a database of their own."""
    from firmtrail.schema import migrate  # noqa: PLC0415 (the import takes a second)

    with TemporaryDirectory(prefix="firmtrail-replay-") as folder:
        path = Path(folder, "scratch.db")
        await migrate.migrate(sqlite.migrating(path), SCRATCH_PROJECT)
        db = await SQLite.open(path)
        try:
            async with db.transaction() as tx:
                log_id = await start_log(tx, SCRATCH_PROJECT)
            yield Views(db, log_id, dict.fromkeys(fold.REVISIONS, 1))
        finally:
            await db.close()


class _Folding(NamedTuple):
    """Holds the log to fold, the views to fold it into, and the receivers of the results."""

    audited: AuditedLog
    views: Views[Database]
    findings: Findings
    advance: AdvanceProgress


async def _fold(folding: _Folding, span: range) -> bool:
    """Returns whether the log could be folded; a finding names the position that stopped it."""
    audited, views, findings, advance = folding
    at = span.start
    try:
        async for after in refold(audited.db, audited.log_id, views, span):
            advance(after - at)
            at = after
    except UNFOLDABLE as error:
        what = f"the log can't be folded from here on: {type(error).__name__}: {error}"
        where = f"position {at}" if at >= 0 else "continued"
        findings.add(audited.name, where, what)
        return False
    return True


async def _live(
    snapshot: Reader, audited: AuditedLog, size: int, findings: Findings
) -> dict[str, int]:
    """Returns the live generation of each view that has the revision of this version. A newer
    schema, which this version can read, may have views that it does not know."""
    rows = await snapshot.read(Statement(_VIEWS, (audited.log_id,)))
    there = {row[0]: row for row in rows}
    is_newer = (await migrations.schema(snapshot)).version != migrations.HEAD
    for view in () if is_newer else there.keys() - fold.REVISIONS.keys():
        findings.add(audited.name, f"views ({view})", "there is no such view")
    for view in fold.REVISIONS.keys() - there.keys():
        findings.add(audited.name, f"views ({view})", "is missing")
    live = {}
    for view in fold.REVISIONS.keys() & there.keys():
        _, revision, generation, position = there[view]
        if revision != fold.REVISIONS[view]:
            what = f"is at revision {revision}, not {fold.REVISIONS[view]}: run `firmtrail rebuild`"
            findings.add(audited.name, f"views ({view})", what)
        elif not _can_be_live(generation, position, size):
            what = f"generation {generation} can't have become live at size {position}"
            findings.add(audited.name, f"views ({view})", what)
        else:
            live[view] = generation
    return live


def _can_be_live(generation: object, position: object, size: int) -> bool:
    """Returns whether a generation can have become live at a size: generation 1 begins at 0."""
    if not isinstance(generation, int) or not isinstance(position, int):
        return False
    return generation >= 1 and 0 <= position <= (0 if generation == 1 else size)


def _row(difference: Difference) -> str:
    key = ", ".join(f"{column} {value}" for column, value in difference.key.items())
    return f"{difference.table} ({key})"


def _what(difference: Difference) -> str:
    if difference.found is None:
        return f"is missing; the log gives {difference.expected}"
    if difference.expected is None:
        return f"is {difference.found}; the log gives no such row"
    return f"is {difference.found}; the log gives {difference.expected}"

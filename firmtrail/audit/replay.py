"""Are the views nothing but the log? The log is folded from zero and held against them, row by row.

The fold is the one that writes live, into a scratch database in a temporary folder: an embedded
one, whatever the back end. Memory is that of a batch. The log may grow meanwhile: what was added
is folded too, up to the size that a snapshot of the database has, and the rows of that snapshot
are the ones compared.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec

from firmtrail.audit import rows
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.audit.verify import Advance
from firmtrail.database.database import Database, Reader, Statement
from firmtrail.database.sqlite import SQLite
from firmtrail.eventstore import lineage, log
from firmtrail.projections import fold
from firmtrail.rebuilding import compare
from firmtrail.rebuilding.compare import Difference
from firmtrail.rebuilding.refold import Views, refold
from firmtrail.recording.recorder import start_log

SCRATCH_PROJECT = "scratch"

_VIEWS = """\
SELECT name, revision, generation, position
FROM views
WHERE log_id = $1
ORDER BY name
LIMIT 100"""

SNAPSHOT_BEHIND_EVENTS_MAX = 10_000
"""What is still to be folded when the snapshot is taken, which should be held for a short time."""

UNFOLDABLE = (log.Corrupt, msgspec.MsgspecError, ValueError, KeyError, AssertionError)
"""What reading and folding raise of a log that is not what was recorded: a rule that every
recorded event keeps is broken, too."""


async def replay(audited: Log, findings: Findings, advance: Advance) -> int:
    """Adds to `findings` every row of the live views that the log does not give, and every row
    that it gives and they lack; the size that was compared. Raises `Unavailable`.
    """
    db, log_id, name = audited.db, audited.log_id, audited.name
    async with _scratch() as views:
        folding = _Folding(audited, views, findings, advance)
        size = await lineage.first_position(db, log_id)  # below 0 where it goes on from others
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
    """An empty log's views in a database of their own."""
    from firmtrail.schema import migrate  # noqa: PLC0415 (a second, only here)

    with TemporaryDirectory(prefix="firmtrail-replay-") as folder:
        path = Path(folder, "scratch.db")
        await migrate.migrate(f"sqlite:///{path}", SCRATCH_PROJECT)
        db = await SQLite.open(path)
        try:
            async with db.transaction() as tx:
                log_id = await start_log(tx, SCRATCH_PROJECT)
            yield Views(db, log_id, dict.fromkeys(fold.REVISIONS, 1))
        finally:
            await db.close()


class _Folding(NamedTuple):
    """From where, into what, and who is told."""

    audited: Log
    views: Views[Database]
    findings: Findings
    advance: Advance


async def _fold(folding: _Folding, span: range) -> bool:
    """Whether the log could be folded; a finding says from where on not."""
    audited, views, findings, advance = folding
    at = span.start
    try:
        async for after in refold(audited.db, audited.log_id, views, span):
            advance(after - at)
            at = after
    except UNFOLDABLE as error:
        what = f"from here on the log can't be folded: {type(error).__name__}: {error}"
        where = f"position {at}" if at >= 0 else "continued"
        findings.add(audited.name, where, what)
        return False
    return True


async def _live(snapshot: Reader, audited: Log, size: int, findings: Findings) -> dict[str, int]:
    """The live generation of each view that is there in this code's form."""
    rows = await snapshot.read(Statement(_VIEWS, (audited.log_id,)))
    there = {row[0]: row for row in rows}
    for view in there.keys() - fold.REVISIONS.keys():
        findings.add(audited.name, f"views ({view})", "there is no such view")
    for view in fold.REVISIONS.keys() - there.keys():
        findings.add(audited.name, f"views ({view})", "is missing")
    live = {}
    for view in fold.REVISIONS.keys() & there.keys():
        _, revision, generation, position = there[view]
        if revision != fold.REVISIONS[view]:
            what = f"is at revision {revision}: `firmtrail rebuild` makes {fold.REVISIONS[view]}"
            findings.add(audited.name, f"views ({view})", what)
        elif not _can_be_live(generation, position, size):
            what = f"no generation {generation} began to be live at size {position}"
            findings.add(audited.name, f"views ({view})", what)
        else:
            live[view] = generation
    return live


def _can_be_live(generation: object, position: object, size: int) -> bool:
    """Generation 1 is made with the log; a later one began to be live at some size."""
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
        return f"is not what the log gives: {difference.found}"
    return f"is {difference.found}; the log gives {difference.expected}"

"""Continues a project whose log is not what was published: in a new log, which cites the old one.

The old log is closed and stays readable. The new log takes the next number. Its views and the
identities that it knows are the fold of what is left of the old log, then of its own events: events
of the old log have positions below 0 in them (`lineage.continue_log`). Lost events are not made up:
the first event says how much of the old log there is, and has its last published checkpoint.
"""

from typing import NamedTuple

from firmtrail.access import projects
from firmtrail.database.database import Database, Transaction, played
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import lineage, log
from firmtrail.projections import controls, fold
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.rebuilding.refold import fold_entries, read_steering
from firmtrail.recording.commit import begin
from firmtrail.recording.recorder import start_log
from firmtrail.rules.device import Refused

GENERATIONS = dict.fromkeys(fold.REVISIONS, 1)
"""The generations of a new log's views."""


class StartedLog(NamedTuple):
    """Holds the number of the new log, and how many events of the old one it continues."""

    number: int
    old_number: int
    size: int


async def continue_log(
    db: Database, old_log_id: int, *, checkpoint: str | None, above: int, actor: str
) -> StartedLog:
    """Closes the project's newest log and continues in a new one, whose number is above `above`.

    `checkpoint` is the last one that was published of the old log, as its note. It is one
    transaction: the project has one log or the other. It folds the whole old log, at the rate of a
    rebuild.
    """
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(old_log_id))
        old = log.head_of(rows)
        if old.closed:
            raise Refused("log_closed", "The project already continues in a newer log.")
        log_id = await start_log(tx, old.project, above=above, recorded_at_ms=old.recorded_at_ms)
        size = await _whole_size(tx, old)
        await tx.run(
            log.close(old_log_id),
            lineage.continue_log(log_id, old_log_id, size),
            projects.set_log(old.project, log_id),
        )
        await _fold_old(tx, log_id, old.project)
        commit = await begin(tx, log_id, MinimumSizes())
        event = LogContinued(old.number, size, checkpoint)
        commit.draft.record(f"log/{old.number}", event, actor=actor)
        await commit.finish()
    return StartedLog(commit.draft.head.number, old.number, size)


async def _whole_size(tx: Transaction, old: log.Head) -> int:
    """Returns the number of events that the log has before the first missing one."""
    start = 0
    while True:
        [page] = await tx.run(log.page(old.log_id, start, old.size, log.PAGE_ENTRIES))
        whole = len([row for at, row in enumerate(page, start) if row[0] == at])
        start += whole
        if whole < log.PAGE_ENTRIES:
            return start


async def _fold_old(tx: Transaction, log_id: int, project: str) -> None:
    """Folds all events before the new log's own ones into its views."""
    [parts] = await tx.run(lineage.segments(log_id))
    start = min(part.start for part in lineage.segments_of(parts))
    while start < 0:
        [rows] = await tx.run(log.page(log_id, start, 0, log.PAGE_ENTRIES))
        entries = log.page_of(log_id, start, rows)
        halted = await played(tx, controls.halted_before(log_id, project, start))
        before = await played(tx, read_steering(log_id, GENERATIONS, halted))
        script = fold_entries(log_id, GENERATIONS, entries, {}, before=before)
        folded = await played(tx, script)
        await tx.run(*folded.statements)
        start += len(entries)

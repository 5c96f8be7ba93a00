"""How a project goes on where its log is not what was published: in a new log, which cites the old.

The old log is closed and stays readable. The new one takes the next number; its views and the
identities that it knows are the fold of what is left of the old log, then its own: events of the
old log stand at positions below 0 in them (`continued.go_on`). Nothing that is lost is made up: the
first event says how much of the old log there is, and shows its last published checkpoint.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

from firmtrail.access import projects
from firmtrail.commit import begin
from firmtrail.device import Refused
from firmtrail.events import LogContinued
from firmtrail.eventstore import continued, log
from firmtrail.eventstore.database import Database, Row, Script, Statement, Transaction
from firmtrail.eventstore.floors import Floors
from firmtrail.projections import fold
from firmtrail.projections.refold import fold_entries
from firmtrail.record import start_log

GENERATIONS = dict.fromkeys(fold.REVISIONS, 1)
"""Of a new log's views."""


class Continued(NamedTuple):
    """The new log, by its number, and how much of the old one it goes on from."""

    number: int
    old_number: int
    size: int


async def continue_log(
    db: Database, old_log_id: int, *, checkpoint: str | None, above: int, actor: str
) -> Continued:
    """Close the project's newest log and go on in a new one, whose number is greater than `above`.

    `checkpoint` is the last that was published of the old log, as its note. One transaction: the
    project has one log or the other. It folds the whole old log, at the rate of a rebuild.
    """
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(old_log_id))
        old = log.head_of(rows)
        if old.closed:
            raise Refused("log_closed", "The project has gone on in a newer log already.")
        log_id = await start_log(tx, old.project, above=above, recorded_at_ms=old.recorded_at_ms)
        size = await _fold_old(tx, old, log_id)
        await tx.run(
            log.close(old_log_id),
            continued.go_on(log_id, old_log_id, size),
            projects.set_log(old.project, log_id),
        )
        commit = await begin(tx, log_id, Floors())
        event = LogContinued(old.number, size, checkpoint)
        commit.record(f"log/{old.number}", event, actor=actor)
        await commit.finish()
    return Continued(commit.head.number, old.number, size)


async def _fold_old(tx: Transaction, old: log.Head, log_id: int) -> int:
    """Fold all that the old log holds into the new one's views; gives how much of it is there."""
    size = await _whole_size(tx, old)
    [rows] = await tx.run(continued.parts(old.log_id))
    parts = [part._replace(start=part.start - size) for part in continued.parts_of(rows)]
    for part in (*parts, continued.Part(old.log_id, old.number, size, -size)):
        for start in range(0, part.size, log.PAGE_ENTRIES):
            [page] = await tx.run(log.page_of(part.log_id, start, part.size))
            await _fold(tx, log_id, _placed(part, page))
    return size


async def _whole_size(tx: Transaction, old: log.Head) -> int:
    """How many events the log has before the first that is missing."""
    start = 0
    while True:
        [page] = await tx.run(log.page_of(old.log_id, start, old.size))
        whole = len([row for at, row in enumerate(page, start) if row[0] == at])
        start += whole
        if whole < log.PAGE_ENTRIES:
            return start


def _placed(part: continued.Part, page: Sequence[Row]) -> list[tuple[int, int, str]]:
    return [(part.start + position, at, text) for position, at, text in page]


async def _fold(tx: Transaction, log_id: int, entries: list[tuple[int, int, str]]) -> None:
    await tx.run(*await _played(tx, fold_entries(log_id, GENERATIONS, entries)))


async def _played(tx: Transaction, script: Script[list[Statement]]) -> list[Statement]:
    statements = next(script)
    while True:
        rows = await tx.run(*statements) if statements else []
        try:
            statements = script.send(rows)
        except StopIteration as end:
            return cast("list[Statement]", end.value)

"""Builds a view again from the log while the live one serves.

The new build is a new generation next to the live one, written in short transactions. The last
transaction locks the head of the log, so that nothing is appended. It folds the rest of the log and
makes the new generation live in the table `views`. A commit before it wrote the old generation, a
commit after it writes the new one; a read finds the live generation in its own statement.

A crash before that last transaction leaves the old views live, and the rebuild at the end of its
last batch, to be continued. A crash after it leaves the new views live, and the rows of the old
ones, which the next call of `delete_dead` deletes.

`prepare` leaves that last transaction out: servers of another version, which write the views that
are live, continue to serve.
"""

import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from itertools import accumulate, repeat
from operator import mul
from typing import NamedTuple

from firmtrail.database.database import Database, Script
from firmtrail.eventstore import log
from firmtrail.projections import controls
from firmtrail.rebuilding import generations
from firmtrail.rebuilding.generations import Build
from firmtrail.rebuilding.refold import Views, fold_entries, read_steering, refold

LAST_EVENTS_MAX = 500
"""How many events may be folded while the head is locked: some ten milliseconds, in which no report
is recorded. The number doubles with each try, so that a rebuild ends even if reports arrive as fast
as they are folded. It is never more than `NEWEST_EVENTS_MAX`."""
NEWEST_EVENTS_MAX = 65_536
"""How many of the newest events of a log a transaction may read: their texts are in the database,
not only in an archive."""


class RebuildProgress(NamedTuple):
    """Holds how far a rebuild has come."""

    build: Build
    size: int
    """The size of the log."""
    is_live: bool = False


async def rebuild(db: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
    """Builds the views to the end of the log and makes them live; yields after each step.

    `build` has been claimed. Raises `Overtaken` if another builder has claimed it since, and the
    errors of `refold`. A rebuild that stops at any step can be claimed again and continues there.
    """
    for doubled in accumulate(repeat(2), mul, initial=LAST_EVENTS_MAX):
        events_max = min(doubled, NEWEST_EVENTS_MAX)
        size = (await log.head(db, build.log_id)).size
        yield RebuildProgress(build, size)
        if size - build.position > events_max:
            async with contextlib.aclosing(_folded(db, build, size)) as steps:
                async for step in steps:
                    build = step.build
                    yield step
        elif (ended := await db.play(_end, build, events_max)) is not None:
            yield ended
            return


async def prepare(db: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
    """Builds the views up to some of the newest events, and makes nothing live; yields after each
    step. Any builder of this code can claim the rebuild then, and continue it.

    `build` has been claimed. Raises the errors of `rebuild`.
    """
    while True:
        size = (await log.head(db, build.log_id)).size
        yield RebuildProgress(build, size)
        if size - build.position <= LAST_EVENTS_MAX:
            await db.play(generations.release, build)
            return
        async with contextlib.aclosing(_folded(db, build, size)) as steps:
            async for step in steps:
                build = step.build
                yield step


async def _folded(db: Database, build: Build, size: int) -> AsyncGenerator[RebuildProgress]:
    """Folds the events before the position `size`; yields after each batch."""
    views = Views(db, build.log_id, build.generations)
    span = range(build.position, size)
    mark = partial(generations.advance, build)
    async with contextlib.aclosing(refold(db, build.log_id, views, span, mark=mark)) as positions:
        async for position in positions:
            yield RebuildProgress(build._replace(position=position), size)


def _end(build: Build, events_max: int) -> Script[RebuildProgress | None]:
    """Folds the rest of the log under the lock of its head and switches. Returns None, and does
    nothing, if the rest is more than `events_max`."""
    log_id = build.log_id
    [locked] = yield [log.lock(log_id)]
    head = log.head_of(locked)
    size = head.size
    if size - build.position > events_max:
        return None
    yield from generations.advance(build, range(build.position, size))
    position = build.position
    while position < size:
        [rows] = yield [log.page(log_id, position, size, events_max)]
        entries = log.page_of(log_id, position, rows)
        halted = yield from controls.halted_before(log_id, head.project, position)
        before = yield from read_steering(log_id, build.generations, halted)
        folded = yield from fold_entries(log_id, build.generations, entries, {}, before=before)
        yield folded.statements
        position += len(entries)
    yield generations.switch(log_id)
    return RebuildProgress(build._replace(position=size), size, is_live=True)

"""How is a view built anew while the live one serves?

As a new generation beside the live one, from the log, in short transactions; in the last one the
head of the log is held, so nothing is appended, what is left of the log is folded, and the views'
rows say that the new generation is live. A commit before it wrote the old generation, one after it
writes the new; a read takes the generation in its own statement.

What a crash leaves: before that last transaction, the old views live and serve, and the rebuild
where its last batch left it, to be gone on with. After it, the new views live and the rows of the
old ones, which `delete_dead` deletes when somebody comes by.
"""

import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from itertools import accumulate, repeat
from operator import mul
from typing import NamedTuple

from firmtrail.database.database import Database, Script
from firmtrail.eventstore import log
from firmtrail.rebuilding import generations
from firmtrail.rebuilding.generations import Build
from firmtrail.rebuilding.refold import Views, fold_entries, refold

LAST_EVENTS_MAX = 500
"""Folded while the head is held: some ten milliseconds, in which no report is recorded. Doubled
with each try, so that a rebuild ends also where reports come as fast as they are folded."""


class RebuildProgress(NamedTuple):
    """How far a rebuild is."""

    build: Build
    size: int
    """The log's."""
    is_live: bool = False


async def rebuild(db: Database, build: Build) -> AsyncGenerator[RebuildProgress]:
    """Build the views to the end of the log, and make them live; tells of each step.

    `build` was claimed. Raises `Overtaken` where somebody else has claimed it since, and what
    `refold` raises. Left at any step, it can be claimed again and goes on from there.
    """
    for events_max in accumulate(repeat(2), mul, initial=LAST_EVENTS_MAX):
        size = (await log.head(db, build.log_id)).size
        yield RebuildProgress(build, size)
        if size - build.position > events_max:
            views = Views(db, build.log_id, build.generations)
            span = range(build.position, size)
            folding = refold(
                db, build.log_id, views, span, mark=partial(generations.advance, build)
            )
            async with contextlib.aclosing(folding) as positions:
                async for position in positions:
                    build = build._replace(position=position)
                    yield RebuildProgress(build, size)
        elif (ended := await db.play(_end, build, events_max)) is not None:
            yield ended
            return


def _end(build: Build, events_max: int) -> Script[RebuildProgress | None]:
    """Catches up under the head lock and switches; None where too much has come meanwhile."""
    log_id = build.log_id
    [locked] = yield [log.lock(log_id)]
    size = log.head_of(locked).size
    if size - build.position > events_max:
        return None
    yield from generations.advance(build, range(build.position, size))
    position = build.position
    while position < size:
        [rows] = yield [log.page(log_id, position, size, events_max)]
        entries = log.page_of(log_id, position, rows)
        folded = yield from fold_entries(log_id, build.generations, entries, {})
        yield folded.statements
        position += len(entries)
    yield generations.switch(log_id)
    return RebuildProgress(build._replace(position=size), size, is_live=True)

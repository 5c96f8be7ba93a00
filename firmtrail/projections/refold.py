"""How is a range of the log folded into views anew? In batches, into generations that nothing else
writes.

It is the fold of a commit, `fold.Fold`, over larger batches: so a rebuild, a replay and what was
written live can't differ by a rule. Memory is that of one batch, however long the log is. A batch
is read and folded outside any transaction, in slices that let other tasks run, and written in one
short transaction.

device_current and device_history of the same generations are the fold's memory: the states of
devices, and what stands behind a late report. Both must be among the views that are built.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import batched
from typing import NamedTuple, cast

from firmtrail import device, events
from firmtrail.events import REPORTS, Recorded
from firmtrail.eventstore import log
from firmtrail.eventstore.database import Database, Reader, Script, Statement
from firmtrail.projections import device_current, device_history, fold

MEMORY = (device_current.NAME, device_history.NAME)
"""The views that every fold from the log needs, whichever it is for."""

SLICE_EVENTS = 100
"""Folded before other tasks get a turn: a millisecond or two."""


class Views[Source: Reader](NamedTuple):
    """A log's views in these generations: view's name -> generation."""

    db: Source
    log_id: int
    generations: Mapping[str, int]


async def refold(
    source: Database, log_id: int, views: Views[Database], span: range
) -> AsyncIterator[int]:
    """Fold the events at the positions of `span` into views that hold all before them.

    Yields, after each batch that is written, the position that comes next; whoever stops there can
    go on from there. Source and target may be different databases. Raises `log.Corrupt` where a
    position is missing, and what `events.decode` raises for an entry that is none of ours.
    """
    async for entries in log.read(source, log_id, span.start, span.stop):
        folding = fold_entries(views.log_id, views.generations, entries)
        statements = await played_by_reads(views.db, folding)
        await views.db.play(_writing(statements))
        yield entries[-1][0] + 1


def _writing(statements: Sequence[Statement]) -> Script[None]:
    yield statements


def fold_entries(
    log_id: int, generations: Mapping[str, int], entries: Sequence[tuple[int, int, str]]
) -> Script[list[Statement]]:
    """The statements that bring the views behind these entries (position, time, text).

    As a script it yields what must be read for it, and nothing where others may have a turn.
    """
    recorded: list[Recorded] = []
    for texts in batched(entries, SLICE_EVENTS):
        yield []
        recorded += [events.decode(position, text) for position, _, text in texts]
    folded = fold.Fold()
    names = {event.stream.removeprefix("device/") for event in recorded if _is_of_device(event)}
    [rows] = yield [device_current.load(log_id, generations[device_current.NAME], names)]
    folded.states.update(device_current.states(rows))
    if late := _late(folded.states, recorded):
        [behind] = yield [device_history.later(log_id, generations[device_history.NAME], late)]
        folded.add_later(late, behind)
    for part in batched(recorded, SLICE_EVENTS):
        yield []
        for event in part:
            folded.apply(event)
    return folded.statements(log_id, generations)


def _is_of_device(event: Recorded) -> bool:
    return event.stream.startswith("device/")


def _late(
    states: Mapping[str, device.DeviceState], recorded: Iterable[Recorded]
) -> list[tuple[str, int]]:
    """The (device, place) of each report that is not the last in its device's order."""
    last = {name: state.last_place for name, state in states.items()}
    late = []
    for event in recorded:
        if isinstance(event.event, REPORTS):
            name = event.stream.removeprefix("device/")
            last_place = last.get(name, -1)
            place = device.placed(device.DeviceState(name, last_place=last_place), event).place
            if place < last_place:
                late.append((name, place))
            else:
                last[name] = place
    return late


async def played_by_reads[Result](db: Database, script: Script[Result]) -> Result:
    """Play a script that only reads what nobody else writes, outside any transaction."""
    statements = next(script)
    while True:
        if not statements:
            await asyncio.sleep(0)
        rows = [await db.read(statement) for statement in statements]
        try:
            statements = script.send(rows)
        except StopIteration as end:
            return cast("Result", end.value)

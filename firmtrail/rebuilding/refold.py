"""Folds a range of the log into views again, in batches, into generations that nothing else writes.

It uses `fold.Fold`, the fold of a commit, for larger batches: so a rebuild, a replay and live
writing can't differ by a rule. It needs memory for a few batches and some thousand devices, however
long the log is. A batch is read and folded outside any transaction, in slices that let other tasks
run, while the batch before it is written in one short transaction.

Some views of the same generations are the fold's memory: the states of devices, the reports after a
late one, the project's `Control`, the offers and the questions. They must be among the views that
are built.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import batched, islice
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from firmtrail.database.database import TURN, Database, Reader, Script, Statement, Steps
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.events.fleet import REPORTS, DeviceSecretIssued
from firmtrail.eventstore import log
from firmtrail.projections import (
    controls,
    device_asks,
    device_current,
    device_history,
    device_offers,
    fold,
    releases,
    rollouts,
)
from firmtrail.projections.steering_fold import SteeringFold
from firmtrail.rules import device, device_order
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState

MEMORY = frozenset(
    view.NAME
    for view in (device_current, device_history, releases, rollouts, device_offers, device_asks)
)
"""The views that every fold from the log needs, whichever view it is for."""

SLICE_EVENTS = 25
"""How many events are folded before other tasks get a turn: half a millisecond. The thread that
writes the batch before gets its turns at the interpreter then, too."""

BATCH_EVENTS_MIN, BATCH_EVENTS_FIRST, BATCH_EVENTS_MAX = 100, 1_000, 4_000
WRITE_S = 0.01
"""How long a batch's statements should take where all other writes wait for them and for COMMIT,
which takes about as long again. The size of batches follows from it; twice as much made nothing
faster."""

WRITE_IN_PARALLEL_S = 0.25
"""The same where other writes don't wait. There, a batch is never larger than the first: smaller
batches spend their time on trips to a busy database, larger ones occupy the event loop for 50 ms,
and slower ones come near a rebuild's lease."""

KNOWN_DEVICES_MAX = 20_000
"""How many states are kept in memory, about 1 KiB each, so that a device that is named again is not
read again."""


class Views[Source: Reader](NamedTuple):
    """Names a log's views in some generations: view's name -> generation."""

    db: Source
    log_id: int
    generations: Mapping[str, int]


class Folded(NamedTuple):
    """Holds a folded batch: the states of its devices and the steering after it, and the
    statements that write it."""

    states: Mapping[str, DeviceState]
    steering: SteeringFold
    statements: list[Statement]


def _unmarked(_batch: range) -> Script[None]:
    yield TURN


async def refold(
    source: Database,
    log_id: int,
    views: Views[Database],
    span: range,
    *,
    mark: Callable[[range], Script[None]] = _unmarked,
) -> AsyncGenerator[int]:
    """Folds the events at the positions of `span` into views that include all events before them.

    Yields the next position after each batch that is written. `mark` is played first in a batch's
    transaction, with the batch's positions: its writes are committed exactly if the batch is. If it
    raises, the batch is not written. Source and target may be different databases. Once the
    generator is closed, nothing is being written any more.

    Raises `log.Corrupt` if a position is missing, or its entry is not one of ours.
    """
    start, size = span.start, BATCH_EVENTS_FIRST
    known: dict[str, DeviceState] = {}
    project = (await log.head(source, log_id)).project
    halted = await _played(source, controls.halted_before(log_id, project, span.start))
    steering = await _played(views.db, read_steering(views.log_id, views.generations, halted))
    writing: asyncio.Task[float] | None = None
    try:
        while start < span.stop:
            rows = await source.read(log.page(log_id, start, span.stop, size))
            entries = log.page_of(log_id, start, rows)
            script = fold_entries(views.log_id, views.generations, entries, known, before=steering)
            folded = await _played_beside(writing, views.db, script)
            _remember(known, folded.states)
            steering = folded.steering
            if writing is not None:
                size = _next_size(size, await writing, in_turn=views.db.plays_in_turn)
                yield start
            batch = range(start, start + len(entries))
            playing = views.db.play(_writing, partial(mark, batch), folded.statements)
            writing = asyncio.create_task(playing)
            start = batch.stop
        if writing is not None:
            await writing
            yield start
    finally:
        if writing is not None:
            await asyncio.wait([writing])


def _remember(known: dict[str, DeviceState], states: Mapping[str, DeviceState]) -> None:
    """Keeps the states of the devices that were named last, including those of this batch."""
    for name in states.keys() & known.keys():
        del known[name]
    known.update(states)
    for name in list(islice(known, max(0, len(known) - KNOWN_DEVICES_MAX))):
        del known[name]


def _writing(mark: Callable[[], Script[None]], statements: Sequence[Statement]) -> Script[float]:
    """Returns the seconds that it took, without COMMIT."""
    began = time.perf_counter()
    yield from mark()
    yield statements
    return time.perf_counter() - began


def _next_size(size: int, write_s: float, *, in_turn: bool) -> int:
    """Returns the size of the next batch, from the time that the last write took. It changes by a
    factor of two at most."""
    goal_s, events_max = (
        (WRITE_S, BATCH_EVENTS_MAX) if in_turn else (WRITE_IN_PARALLEL_S, BATCH_EVENTS_FIRST)
    )
    wanted = size * min(max(goal_s / write_s, 0.5), 2)
    return min(max(int(wanted), BATCH_EVENTS_MIN), events_max)


def fold_entries(
    log_id: int,
    generations: Mapping[str, int],
    entries: log.EntryPage,
    states: Mapping[str, DeviceState],
    *,
    before: SteeringFold,
) -> Script[Folded]:
    """Folds a batch; `states` are those of devices that need not be read, or can't be read yet.

    `before` is the steering after the batch before; `read_steering` reads it from written rows. As
    a script it yields the statements that it needs read, and none where others may have a turn.
    """
    recorded: list[Recorded] = []
    for texts in batched(entries, SLICE_EVENTS):
        yield TURN
        recorded += [_decoded(position, text) for position, _, text in texts]
    folded = fold.Fold()
    named = {_device(event) for event in recorded if event.stream.startswith("device/")}
    folded.states.update((name, states[name]) for name in named & states.keys())
    current = device_current.load(
        log_id, generations[device_current.NAME], named - folded.states.keys()
    )
    [rows] = yield [current]
    folded.states.update(device_current.states(rows))
    if late := _late(folded.states, recorded):
        [later] = yield [device_history.later(log_id, generations[device_history.NAME], late)]
        folded.add_later(late, later)
    folded.steering.control, folded.steering.recent = before.control, before.recent
    if before.control.releases:
        [rows] = yield [device_offers.load(log_id, generations[device_offers.NAME], named)]
        folded.steering.offers = device_offers.state(rows)
    if questions := _questions(recorded):
        [rows] = yield [device_asks.load(log_id, generations[device_asks.NAME], questions)]
        folded.steering.asks = device_asks.state(rows)
    for part in batched(recorded, SLICE_EVENTS):
        yield TURN
        for event in part:
            folded.apply(event)
    statements = folded.statements(log_id, generations)
    return Folded(folded.states, folded.steering, statements)


def read_steering(
    log_id: int, generations: Mapping[str, int], halted: Control
) -> Script[SteeringFold]:
    """Reads the steering after the events that the views include; `halted` has the halts up to
    there (`controls.halted_before`). Settings are left out, because no view's rows follow from
    them."""
    of_releases, of_rollouts = yield [
        releases.load(log_id, generations[releases.NAME]),
        rollouts.load(log_id, generations[rollouts.NAME]),
    ]
    found = SteeringFold()
    found.control = Control(
        halt=halted.halt,
        halts=halted.halts,
        releases=releases.state(of_releases),
        rollouts=rollouts.state(of_rollouts),
    )
    found.recent = rollouts.recent(of_rollouts)
    return found


def _questions(recorded: Iterable[Recorded]) -> set[tuple[str, str]]:
    return {
        (_device(event), event.event.question)
        for event in recorded
        if isinstance(event.event, REPORTS) and event.event.question is not None
    }


def _decoded(position: int, text: str) -> Recorded:
    try:
        return decode(position, text)
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise log.Corrupt(f"position {position} is not an entry: {error!r}") from error


def _device(event: Recorded) -> str:
    return event.stream.removeprefix("device/")


def _late(states: Mapping[str, DeviceState], recorded: Iterable[Recorded]) -> list[tuple[str, int]]:
    """Returns the (device, place) of each report that may not be the last in its device's order.

    `last` has only those members of a device that its order needs. Its last place is never above
    the one that the device will have. A report after one with a slow clock, or in a counting that
    begins in this batch, can only be late because of reports that the fold knows.
    """
    last = {
        name: DeviceState(name, last_place=state.last_place, counting_place=state.counting_place)
        for name, state in states.items()
    }
    late = []
    for event in recorded:
        name = _device(event)
        if isinstance(event.event, REPORTS):
            before = last.get(name) or DeviceState(name)
            place = device_order.placed(before, event).place
            if place < before.last_place:
                late.append((name, place))
            else:
                last[name] = replace(before, last_place=place)
        elif isinstance(event.event, DeviceSecretIssued) and name in last:
            last[name] = device.evolve_attributes(last[name], name, event.event)
    return late


async def _played[Result](db: Database, script: Script[Result]) -> Result:
    """Plays a script that only reads."""
    steps = Steps(script)
    for statements in steps:
        steps.rows = [await db.read(statement) for statement in statements]
    return steps.result


async def _played_beside(
    writing: asyncio.Task[float] | None, db: Database, script: Script[Folded]
) -> Folded:
    """Plays a script that only reads, while the batch before it is being written. Its first read
    need not see that batch, whose states are known. Every later read waits for it."""
    steps, is_first = Steps(script), True
    for statements in steps:
        if statements is TURN:
            await asyncio.sleep(0)
            continue
        if not is_first and writing is not None:
            await asyncio.wait([writing])
        is_first = False
        steps.rows = [await db.read(statement) for statement in statements]
    return steps.result

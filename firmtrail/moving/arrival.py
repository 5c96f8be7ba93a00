"""Lets a project that was copied begin in the other instance, or gives that up for good.

Both lock the copy of the project's last log first, and then the new log. So of `activate` and
`give_up` one is first, and the other one finds what it did.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

from firmtrail.access import people, projects, reads
from firmtrail.access.people import KnownPerson
from firmtrail.access.reads import ChainHead
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.commands import access_record, move_project
from firmtrail.database.database import Database, Reader, Statement, Transaction
from firmtrail.events.entry import decode
from firmtrail.events.log import (
    AccessRecordSealed,
    LogContinued,
    ProjectArrived,
    ProjectMoveUndone,
)
from firmtrail.eventstore import chain, lineage, log, moving, short_streams
from firmtrail.eventstore.log import AHEAD_MS_MAX, Head
from firmtrail.moving import logs, rows
from firmtrail.projections import fold
from firmtrail.publishing import arrivals, checkpoint
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.rebuilding import generations
from firmtrail.rebuilding.builder import LEASE_MS
from firmtrail.rebuilding.generations import Busy, Overtaken
from firmtrail.rebuilding.rebuild import rebuild
from firmtrail.recording.commit import SYSTEM, begin, until_text
from firmtrail.recording.recorder import start_log

ARRIVED_EVENTS = 2
"""The events of a log in which a project has arrived and nothing happened yet."""

_NEXT = """\
SELECT continued.log_id, log_heads.closed
FROM continued
JOIN log_heads ON log_heads.log_id = continued.log_id
WHERE continued.old_log_id = $1
    AND continued.size = $2
    AND continued.start = -CAST($2 AS bigint)
ORDER BY log_heads.number DESC
LIMIT 1"""

_BUILT = "SELECT count(*) FROM views WHERE log_id = $1 AND generation > 1"

_WAITING = """\
SELECT rollouts.rollout
FROM rollouts
JOIN views
    ON views.log_id = rollouts.log_id
    AND views.name = 'rollouts'
    AND views.generation = rollouts.generation
WHERE rollouts.log_id = $1 AND rollouts.phase = 'waiting'
ORDER BY rollouts.rollout
LIMIT 1"""


class GivenUp(Exception):
    """This move was undone in the other database."""


class Taken(Exception):
    """The other instance has a project of this name."""


class ErasedThere(Exception):
    """A person of the project was erased in one of the two instances only, and would be revived."""

    def __init__(self, person: KnownPerson) -> None:
        super().__init__(
            f"{person.email or person.actor_id}, who is or was a member, is erased in one of the "
            f"two instances only (user {person.actor_id}). Erase this person in the other one with "
            "`firmtrail user erase`, then move. If the project has stopped, use --undo first."
        )


class ClocksDiffer(Exception):
    """The clock of the other database is so slow that the new log would take no events."""

    def __init__(self, last_ms: int, there_ms: int) -> None:
        super().__init__(
            f"The project is at {until_text(last_ms)}, by the clock here or its last event, and "
            f"the clock of the other database at {until_text(there_ms)}. A log takes no events if "
            f"its last one is over {AHEAD_MS_MAX // 60_000} minutes ahead of the clock. Set the "
            "clocks right, or wait, then move."
        )


class UsedThere(Exception):
    """The project can't go back, because something was recorded in the other instance."""


class EndOfLog(NamedTuple):
    """Describes the project's last log here, and what proves its end."""

    head: Head
    note: str
    """Its last checkpoint."""
    key: str
    """Its verifier key line."""


class Arriving(NamedTuple):
    """Holds what a project needs to begin there."""

    source: Database
    end: EndOfLog
    log_id: int
    """The new log, which `prepare` returned."""
    copies: Mapping[int, int]
    """All logs of the project: id here -> id there."""


async def has_begun(target: Reader, last: Head) -> bool:
    """Returns whether the project has begun there after this end of its last log."""
    copy_id = await log.by_number(target, last.project, last.number)
    found = await target.read(Statement(_NEXT, (copy_id or 0, last.size)))
    return [state for _, state in found] == [moving.OPEN]


async def prepare(target: Database, last: Head, copy_id: int) -> int:
    """Returns the log in which the project continues, which is added and closed if there is none.
    Raises `GivenUp`."""
    async with target.transaction() as tx:
        log_id, state = await _next(tx, last, copy_id)
    if state == moving.GIVEN_UP:
        raise GivenUp
    return log_id


async def _next(tx: Transaction, last: Head, copy_id: int) -> tuple[int, int]:
    """Locks the copy of the last log; returns the log that continues it at this size, and its
    state. A closed one is added if there is none."""
    await moving.locked(tx, copy_id)
    [found] = await tx.run(Statement(_NEXT, (copy_id, last.size)))
    for log_id, state in found:
        return int(log_id), int(state)
    log_id = await start_log(tx, last.project, recorded_at_ms=last.recorded_at_ms)
    await tx.run(
        moving.set_closed(log_id, moving.CLOSED), lineage.continue_log(log_id, copy_id, last.size)
    )
    return log_id, moving.CLOSED


async def fold_views(target: Database, log_id: int, advance: AdvanceProgress) -> None:
    """Builds the views of the new log from the copied ones, in batches. It continues a build that
    was interrupted; a server of the other instance may have continued it already."""
    builder = f"move {uuid4().hex}"
    while not await _is_built(target, log_id):
        try:
            build = await target.play(
                generations.claim, log_id, frozenset(fold.REVISIONS), builder, LEASE_MS
            )
            position = build.position
            async for progress in rebuild(target, build):
                advance(progress.build.position - position)
                position = progress.build.position
        except (Busy, Overtaken):
            await asyncio.sleep(LEASE_MS / 1000)


async def _is_built(target: Reader, log_id: int) -> bool:
    [[built]] = await target.read(Statement(_BUILT, (log_id,)))
    return bool(built == len(fold.REVISIONS))


async def activate(target: Database, arriving: Arriving) -> None:
    """Opens the new log, with everything that the project has next to its logs. Does nothing if
    that was done already. Raises `GivenUp`, `Taken`, `ErasedThere`, `rows.OtherProjectsLog`,
    `rows.LeftOut`."""
    source, end, log_id, copies = arriving
    project = end.head.project
    newest = await projects.newest_log(source, project)
    assert newest is not None, "the project is here"
    async with target.transaction() as tx:
        await moving.locked(tx, copies[end.head.log_id])
        _, state = await moving.locked(tx, log_id)
        if state == moving.OPEN:
            return
        if state != moving.CLOSED:
            raise GivenUp
        [arrived] = await tx.run(projects.arrive(project, log_id, newest[1]))
        if not arrived:
            raise Taken
        named = await _add_people(source, tx, project)
        await _add_rows(tx, arriving, named)
        await tx.run(moving.set_closed(log_id, moving.OPEN))
        await _record(tx, end, log_id, named)


async def _record(tx: Transaction, end: EndOfLog, log_id: int, named: Mapping[str, str]) -> None:
    commit = await begin(tx, log_id, MinimumSizes())
    continued = LogContinued(end.head.number, end.head.size, end.note)
    commit.draft.record(f"log/{end.head.number}", continued, actor=SYSTEM)
    arrived = ProjectArrived(end.head.number, end.key, dict(named))
    stream = arrivals.stream(checkpoint.read_key_line(end.key))
    commit.draft.record(stream, arrived, actor=SYSTEM)
    await commit.finish()


async def _add_people(source: Reader, tx: Transaction, project: str) -> dict[str, str]:
    """Adds the people that are not there; returns the ids of those who have another id there.
    Raises `ErasedThere`."""
    named = {}
    for person in await people.of_project(source, project):
        [_, [[there]]] = await tx.run(*people.add_known(person))
        [_, [account]] = await tx.run(*people.locked_account(there))
        if person.erased_at_ms is not None or people.Account(*account).erased_at_ms is not None:
            raise ErasedThere(person)
        if there != person.actor_id:
            named[person.actor_id] = str(there)
    return named


async def _add_rows(tx: Transaction, arriving: Arriving, named: Mapping[str, str]) -> None:
    source, project = arriving.source, arriving.end.head.project
    replaced: rows.Replaced = {"actor_id": named, "log_id": arriving.copies}
    for table in (rows.MEMBERS, rows.TOKENS, rows.WEBHOOKS, *rows.OTHERS):
        await rows.copy(source, tx, table, project=project, replaced=replaced)
    await rows.copy_keys(source, tx, arriving.copies, named)
    sealed = await _sealed(source, project)
    size = 0
    async for page in rows.pages(source, rows.ACCESS_RECORD, project):
        if kept := [row for row in page if row[-1] < sealed.size]:
            await tx.run(rows.add(rows.ACCESS_RECORD, project, kept))
            size += len(kept)
    await rows.check_size(tx, rows.ACCESS_RECORD, project, size)
    if sealed.size:
        await tx.run(reads.arrive(project, sealed))


async def _sealed(source: Reader, project: str) -> ChainHead:
    """Returns the end of the access record that the logs seal: rows after it stay here."""
    [newest] = await log.newest(source, project)
    sealed = ChainHead(0, chain.START)
    for position, _, text in await short_streams.read(
        source, newest.log_id, access_record.stream(project)
    ):
        event = decode(position, text).event
        if isinstance(event, AccessRecordSealed):
            sealed = ChainHead(event.size, event.head)
    return sealed


async def give_up(target: Database, last: Head, to: str) -> None:
    """Makes sure that the project never begins there by the move that ended its log here. Removes
    it if it has begun and nothing happened since; else raises `UsedThere`. The copied entries stay,
    without their free texts. If another project has its name there, it can't begin, and nothing is
    done."""
    if await _is_taken(target, last):
        return
    copy_id = await logs.added(target, last.project, last.number)
    copies = [copy.log_id for copy in await log.logs(target, last.project, after=0, limit=1_000)]
    async with target.transaction() as tx:
        log_id, _ = await _next(tx, last, copy_id)
        head, state = await moving.locked(tx, log_id)
        await tx.run(*[moving.delete_texts(each) for each in copies])
        if state == moving.GIVEN_UP:
            return
        if head.size:
            [grown] = await tx.run(reads.unsealed(last.project))
            if state != moving.OPEN or head.size != ARRIVED_EVENTS or grown:
                raise UsedThere
            await rows.delete(tx, last.project, copies)
            await tx.run(projects.leave(last.project))
        await tx.run(moving.set_closed(log_id, moving.OPEN), log.accept_clock(log_id))
        commit = await begin(tx, log_id, MinimumSizes())
        if head.size == 0:
            continued = LogContinued(last.number, last.size)
            commit.draft.record(f"log/{last.number}", continued, actor=SYSTEM)
        commit.draft.record(move_project.stream(last.project), ProjectMoveUndone(to), actor=SYSTEM)
        await commit.finish()
        await tx.run(moving.set_closed(log_id, moving.GIVEN_UP))
    await target.scrub()


async def _is_taken(target: Reader, last: Head) -> bool:
    """Returns whether another project has the name there: one that does not continue this log."""
    if await projects.newest_log(target, last.project) is None:
        return False
    copy_id = await log.by_number(target, last.project, last.number)
    return not await target.read(Statement(_NEXT, (copy_id or 0, last.size)))


async def others_there(source: Reader, target: Reader, project: str) -> list[KnownPerson]:
    """Returns the people of the project who have another id there."""
    everyone = await people.of_project(source, project)
    there = [await people.known_as(target, each) for each in everyone]
    return [
        each
        for each, known in zip(everyone, there, strict=True)
        if known not in {None, each.actor_id}
    ]


async def check_erased(source: Reader, target: Reader, project: str) -> None:
    """Raises `ErasedThere` if a person of the project was erased in one of the databases."""
    for person in await people.of_project(source, project):
        there = await people.by_id(target, person.actor_id)
        if person.erased_at_ms is not None or (there and there.erased_at_ms is not None):
            raise ErasedThere(person)


async def check_clocks(target: Reader, last: Head) -> None:
    """Raises `ClocksDiffer` if the new log would take no events by the clock there, because the
    last log here ends, or would be closed, too much later."""
    [[there_ms]] = await target.read(Statement("SELECT now_ms()"))
    last_ms = last.recorded_at_ms if last.closed else max(last.recorded_at_ms, last.now_ms)
    if last_ms > there_ms + AHEAD_MS_MAX:
        raise ClocksDiffer(last_ms, there_ms)


async def waiting_rollout(source: Reader, log_id: int) -> str | None:
    """Returns a rollout that waits for approval, if there is one."""
    found = await source.read(Statement(_WAITING, (log_id,)))
    return str(found[0][0]) if found else None

"""Copies the logs of a project, with their checkpoints, and continues a copy that ended early."""

from firmtrail.access import projects
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.database.database import Database, Reader, Unavailable
from firmtrail.events.entry import decode
from firmtrail.eventstore import lineage, log, merkle, moving, tree
from firmtrail.eventstore.log import Head, NewEntry
from firmtrail.eventstore.stored_events import StoredEvent
from firmtrail.publishing import published

CHECKPOINTS_PAGE = 1_000


class OtherLog(Exception):
    """A log of the project there is not a beginning of the log that is moved."""


async def added(target: Database, project: str, number: int) -> int:
    """Returns the id of the copy with this number, which is added if there is none. The project's
    name is reserved for as long as there are copies, so no other project gets it, whose logs they
    would seem to be. Raises `OtherLog` if one has it already."""
    while (log_id := await log.by_number(target, project, number)) is None:
        async with target.transaction() as tx:
            await tx.run(projects.reserve(project))
            [there] = await tx.run(projects.one(project))
            if there:
                raise OtherLog(
                    f"The other database has a project {project} already. It can't take this one: "
                    "use another database."
                )
            await tx.run(moving.add_copy(project, number))
    return log_id


async def check_beginning(source: Database, target: Database, head: Head) -> int:
    """Returns how many entries of this log are there. Raises `OtherLog`."""
    log_id = await log.by_number(target, head.project, head.number)
    if log_id is None:
        return 0
    there = await log.head(target, log_id)
    is_copy = there.closed and there.size <= head.size
    if is_copy and there.size:
        root = await tree.root(source, head.log_id, there.size)
        is_copy = root == merkle.root(there.frontier)
    if not is_copy:
        raise OtherLog(
            f"The other database has a log {head.number} of project {head.project} with other "
            "events. It can't take this project: use another database."
        )
    return there.size


async def copy(source: Database, target: Database, head: Head, advance: AdvanceProgress) -> int:
    """Copies the rest of a log, its checkpoints, and which logs it continues; returns the copy's
    id. Raises `OtherLog`, `log.Corrupt` where an entry is missing, or `Unavailable`."""
    size = await check_beginning(source, target, head)
    advance(size)
    log_id = await added(target, head.project, head.number)
    if size:
        await _copy_texts(source, target, head.log_id, log_id)
    while size < head.size:
        rows = await moving.page(source, head.log_id, size, head.size)
        entries = [_entry(row) for row in rows]
        async with target.transaction() as tx:
            locked, _ = await moving.locked(tx, log_id)
            if locked.size != size:
                raise Unavailable("Another process moves this project: wait until it has ended")
            await tx.run(*moving.copy(locked, rows, entries))
        size += len(rows)
        advance(len(rows))
    await _copy_checkpoints(source, target, head.log_id, log_id)
    await _continue(source, target, head, log_id)
    return log_id


async def _copy_texts(source: Reader, target: Database, log_id: int, copy_id: int) -> None:
    """Adds the texts of the entries that are there already: an undo deleted them."""
    after, size = -1, (await log.head(target, copy_id)).size
    while found := await moving.texts(source, log_id, after=after):
        if there := [each for each in found if each.position < size]:
            async with target.transaction() as tx:
                await tx.run(moving.add_texts(copy_id, there))
        if len(there) < len(found):
            return
        after = found[-1].position


def _entry(row: StoredEvent) -> NewEntry:
    kind = decode(row.position, row.entry).event
    return NewEntry(row.stream, row.event_id, row.entry, kind.IS_CONTROL, kind.IS_NUDGE)


async def _copy_checkpoints(source: Reader, target: Database, log_id: int, copy_id: int) -> None:
    there = await published.page(target, copy_id, below=(1 << 63) - 1, limit=1)
    size = there[0].size if there else 0
    while notes := await published.after(source, log_id, size, limit=CHECKPOINTS_PAGE):
        async with target.transaction() as tx:
            await tx.run(published.insert([(copy_id, *each) for each in notes]))
        size = notes[-1].size


async def _continue(source: Reader, target: Database, head: Head, copy_id: int) -> None:
    """Records there which log the copy continues. The copies of older logs are there already."""
    segments = lineage.segments_of(await source.read(lineage.segments(head.log_id)))
    if not segments or await target.read(lineage.segments(copy_id)):
        return
    older = segments[-1]
    older_id = await added(target, head.project, older.number)
    async with target.transaction() as tx:
        await tx.run(lineage.continue_log(copy_id, older_id, older.size))

"""Stops a project for a move to another instance, ends its service here, or lets it continue here.

The first step closes the project's log in the transaction that records it, after a seal of the
access record. From then on no server can append to the log, because each append locks the head and
finds it closed. Only `undo` opens it again; the caller has made sure that the other instance can
no longer take the project over.
"""

from typing import NamedTuple

from firmtrail.access import projects
from firmtrail.commands.access_record import seal
from firmtrail.database.database import Database, Reader, Transaction
from firmtrail.events.entry import decode
from firmtrail.events.log import ProjectMoveStarted, ProjectMoveUndone
from firmtrail.eventstore import log, moving
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.recording.commit import Commit, begin
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import Refused


class StoppedLog(NamedTuple):
    """Names the last log of a project that is being moved, and its size."""

    number: int
    size: int


async def move_of(db: Reader, head: log.Head) -> ProjectMoveStarted | None:
    """Returns the move for which the log is closed; None: it is not."""
    if not head.closed or not head.size:
        return None
    rows = await db.read(log.page(head.log_id, head.size - 1, head.size, 1))
    return next((_move(position, text) for position, _, text in rows), None)


def _move(position: int, text: str) -> ProjectMoveStarted | None:
    event = decode(position, text).event
    return event if isinstance(event, ProjectMoveStarted) else None


async def start(
    db: Database, recorder: Recorder, log_id: int, *, wanted: ProjectMoveStarted, actor: str
) -> StoppedLog:
    """Seals the access record, records the move and closes the log. Done again for the same move,
    it changes nothing. Raises `Refused` if another move is under way."""
    head = await log.head(db, log_id)
    if not head.closed:

        async def command(commit: Commit) -> None:
            await seal()(commit)
            commit.draft.record(stream(commit.draft.project), wanted, actor=actor)
            await commit.run(moving.set_closed(log_id, moving.CLOSED))

        await recorder.act(log_id, command)
        head = await log.head(db, log_id)
    if (found := await move_of(db, head)) != wanted:
        to = f"to {found.to}, at {found.address}" if found else "in a newer log"
        raise Refused("project_moving", f"The project is moved {to}. Undo that first.")
    return StoppedLog(head.number, head.size)


async def moved(db: Reader, project: str) -> ProjectMoveStarted | None:
    """Returns the move that took the project away; None: it is here, still moving or unknown."""
    newest = await projects.newest_log(db, project)
    if newest is None or await moving.closed_state(db, newest[0]) != moving.MOVED:
        return None
    return await move_of(db, await log.head(db, newest[0]))


def moved_text(project: str, move: ProjectMoveStarted) -> str:
    """Returns the sentence that sends people on to the new address."""
    return (
        f"Project {project} has moved to the instance {move.to}, at {move.address}: use that one."
    )


async def finish(db: Database, log_id: int) -> None:
    """Lets servers send all requests on to the new address. Raises `Refused` if no move is under
    way."""
    async with db.transaction() as tx:
        await _moving(tx, log_id)
        await tx.run(moving.set_closed(log_id, moving.MOVED))


async def undo(db: Database, log_id: int, minimum_sizes: MinimumSizes, actor: str) -> StoppedLog:
    """Opens the log again, and records that. Raises `Refused` if no move is under way."""
    async with db.transaction() as tx:
        move = await _moving(tx, log_id)
        await tx.run(moving.set_closed(log_id, moving.OPEN))
        commit = await begin(tx, log_id, minimum_sizes)
        event = ProjectMoveUndone(move.to)
        commit.draft.record(stream(commit.draft.project), event, actor=actor)
        await commit.finish()
    return StoppedLog(commit.draft.head.number, commit.draft.size)


async def _moving(tx: Transaction, log_id: int) -> ProjectMoveStarted:
    """Locks the log, and returns the move for which it is closed."""
    head, state = await moving.locked(tx, log_id)
    if state != moving.OPEN and head.size:
        [rows] = await tx.run(log.page(log_id, head.size - 1, head.size, 1))
        for position, _, text in rows:
            if move := _move(position, text):
                return move
    raise Refused("not_moving", "The project is not being moved.")


def stream(project: str) -> str:
    """Returns the stream of a project's moves."""
    return f"move/{project}"

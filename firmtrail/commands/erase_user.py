"""Erases a person.

The log never had more than an id, so every proof stays valid. Each project that ever named the
person records UserErased in the commit that ends the membership and its tokens; then address,
password, logins and every kept answer that names the person are deleted. A crash in between leaves
a person half erased: erasing again completes it.

The log of a project that was moved to another instance takes no events here. There the person is
only forgotten; the other instance records its own erasure.
"""

from firmtrail.access import people, tokens
from firmtrail.commands import once
from firmtrail.database.database import Database
from firmtrail.events.access import UserErased
from firmtrail.eventstore import log, moving
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand, Recorder


async def erase_user(db: Database, recorder: Recorder, actor_id: str, *, actor: str) -> None:
    """Erases the user with this id, also from projects that the user joins meanwhile. A project may
    lose its last admin: a person's right to be erased outranks that rule."""
    while not await _is_emptied(db, actor_id):
        for log_id in await people.logs_naming(db, actor_id):
            if await moving.closed_state(db, log_id) == moving.MOVED:
                await _forget_moved(db, log_id, actor_id)
            else:
                await recorder.act(log_id, erase_member(actor_id, actor=actor))
    await db.scrub()


async def _forget_moved(db: Database, log_id: int, member: str) -> None:
    project = (await log.head(db, log_id)).project
    async with db.transaction() as tx:
        await tx.run(people.forget(project, member), tokens.forget_in(project, member))


def erase_member(member: str, *, actor: str) -> LogCommand[None]:
    """Ends what is left of the membership, and records that the person was erased."""

    async def command(commit: Commit) -> None:
        [named, _] = await commit.run(
            people.forget(commit.draft.project, member),
            tokens.forget_in(commit.draft.project, member),
        )
        if named:
            commit.draft.record(f"user/{member}", UserErased(member), actor=actor)

    return command


async def _is_emptied(db: Database, actor_id: str) -> bool:
    """Empties the user's rows and returns True; does nothing if a project still names the user."""
    async with db.transaction() as tx:
        [_, emptied] = await tx.run(people.lock(actor_id), people.erase(actor_id))
        if emptied:
            await tx.run(tokens.forget(actor_id), *once.forget_person(actor_id))
    return bool(emptied)

"""Seals the access record: puts the head of its chain into the project's log; and trims it.

Once rows are sealed, an audit finds any row that was changed, removed or added among them. Rows are
sealed at the latest a day after the first of them, and before an auditor gets a checkpoint.

Old rows may be deleted up to a seal. The log records it first, so an audit knows which rows are
gone, and takes the head of the rows before the remaining ones from the seal.
"""

from typing import NamedTuple

from firmtrail.access import reads
from firmtrail.database.database import Database, NotAllowed
from firmtrail.events.entry import decode
from firmtrail.events.log import AccessRecordSealed, AccessRecordTrimmed
from firmtrail.eventstore import short_streams
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules.device import Refused


def seal() -> LogCommand[int]:
    """Seals the new rows of the project's access record, if there are any; returns the log's size
    after that. The chain may grow meanwhile: each of its heads is valid, so it needs no lock."""

    async def command(commit: Commit) -> int:
        [rows] = await commit.run(reads.unsealed(commit.draft.project))
        for size, head in rows:
            sealed = AccessRecordSealed(size, head)
            commit.draft.record(stream(commit.draft.project), sealed, actor=SYSTEM)
            await commit.run(reads.note_sealed(commit.draft.project, size))
        return commit.draft.size

    return command


class Trimmed(NamedTuple):
    """Says how many rows are gone, of all that were ever recorded, and how many this deleted."""

    size: int
    deleted: int


class RecordedSizes(NamedTuple):
    """Holds what a project's logs say about its access record."""

    seals: list[int]
    """The numbers of rows that were sealed."""
    trimmed: int
    """The number of rows that may be deleted."""


async def trim(db: Database, recorder: Recorder, place: tuple[str, int], before_ms: int) -> Trimmed:
    """Deletes rows that are older than a time, up to the last seal that covers no newer row.
    `place` is the project and its newest log. The log records it before a row is deleted.

    One call deletes as many rows as `reads.delete` does: call it until it deletes none. If that
    ends in between, the next call deletes more of the same rows, before it looks for others. Raises
    `Refused` if the role of the connection may not delete: on PostgreSQL only the owner of the
    tables may."""
    project, log_id = place
    try:
        await reads.check_may_delete(db, project)
    except NotAllowed as error:
        raise Refused(
            "not_the_owner",
            "The role of --database may not delete rows of the access record. Run the command as "
            "the role that owns the tables.",
        ) from error
    known = await _recorded(db, project, log_id)
    size = known.trimmed
    if await reads.first(db, project, size) >= size:  # what was recorded before is done
        size = await _covered(db, project, known, before_ms)
        if size > known.trimmed:
            await recorder.act(log_id, _record_trim(size))
    return Trimmed(size, await reads.delete(db, project, size))


async def _covered(db: Database, project: str, known: RecordedSizes, before_ms: int) -> int:
    """Returns the size of the last seal that covers no row of this time or later."""
    later = [size for size in known.seals if size > known.trimmed]
    old = await reads.old(db, project, before_ms, max(later)) if later else 0
    return max([known.trimmed, *(size for size in later if size <= old)])


def _record_trim(size: int) -> LogCommand[None]:
    async def command(commit: Commit) -> None:
        trimmed = AccessRecordTrimmed(size)
        commit.draft.record(stream(commit.draft.project), trimmed, actor=SYSTEM)

    return command


async def _recorded(db: Database, project: str, log_id: int) -> RecordedSizes:
    seals, trimmed = [], 0
    for position, _, text in await short_streams.read(db, log_id, stream(project)):
        match decode(position, text).event:
            case AccessRecordSealed(size=size):
                seals.append(size)
            case AccessRecordTrimmed(size=size):
                trimmed = max(trimmed, size)
    return RecordedSizes(seals, trimmed)


def stream(project: str) -> str:
    """Returns the stream of what a project's log says of its access record."""
    return f"access-record/{project}"

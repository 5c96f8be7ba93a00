"""Seals the access record: puts the head of its chain into the project's log.

A row that was sealed can't be changed, taken away or joined by another without an audit's finding
it. Rows are sealed a day after the first of them at the latest, and before an auditor gets a
checkpoint.
"""

from firmtrail.access import reads
from firmtrail.events.log import AccessRecordSealed
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand

ACTOR = "system"


def seal() -> LogCommand[int]:
    """Seal what the project's access record has grown by, if it has; gives the log's size after.

    The chain may grow meanwhile: each of its heads is good, so it needs no lock.
    """

    async def command(commit: Commit) -> int:
        [rows] = await commit.run(reads.unsealed(commit.draft.project))
        for size, head in rows:
            sealed = AccessRecordSealed(size, head)
            commit.draft.record(f"access-record/{commit.draft.project}", sealed, actor=ACTOR)
            await commit.run(reads.note_sealed(commit.draft.project, size))
        return commit.draft.size

    return command

"""Seals the access record: puts the head of its chain into the project's log.

Once rows are sealed, an audit finds any row that was changed, removed or added among them. Rows are
sealed at the latest a day after the first of them, and before an auditor gets a checkpoint.
"""

from firmtrail.access import reads
from firmtrail.events.log import AccessRecordSealed
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.recording.recorder import LogCommand


def seal() -> LogCommand[int]:
    """Seals the new rows of the project's access record, if there are any; returns the log's size
    after that. The chain may grow meanwhile: each of its heads is valid, so it needs no lock."""

    async def command(commit: Commit) -> int:
        [rows] = await commit.run(reads.unsealed(commit.draft.project))
        for size, head in rows:
            sealed = AccessRecordSealed(size, head)
            commit.draft.record(f"access-record/{commit.draft.project}", sealed, actor=SYSTEM)
            await commit.run(reads.note_sealed(commit.draft.project, size))
        return commit.draft.size

    return command

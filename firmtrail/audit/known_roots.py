"""Collects the roots that a log must have had: those of the checkpoints in the database, of the
published checkpoints outside it, and of the checkpoints that an auditor kept.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.database.database import Reader, Row, Statement
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, Verifier, parse, verify_note

_BETWEEN = """\
SELECT size, note
FROM checkpoints
WHERE log_id = $1 AND size >= $2 AND size <= $3
ORDER BY size
LIMIT 100000"""

_OUTSIDE = """\
SELECT size, note
FROM checkpoints
WHERE log_id = $1 AND size < 0
UNION ALL
SELECT size, note
FROM checkpoints
WHERE log_id = $1 AND size > $2
ORDER BY size
LIMIT 100"""


class ExpectedRoot(NamedTuple):
    """Says that the tree had this root at this size."""

    size: int
    root: bytes
    source: str
    """The row or file that says so."""


class KnownRoots(NamedTuple):
    """Holds what a log's roots are compared with, apart from the checkpoints in the database."""

    verifier: Verifier | None
    """None: no key is known, so the log is compared with every note, whoever signed it."""
    outside: tuple[ExpectedRoot, ...] = ()
    continued_size: int | None = None
    """The size of the log when a newer log continued it."""

    def plus(self, checkpoint: Checkpoint, source: str) -> "KnownRoots":
        """Returns these roots and that of one more checkpoint from outside the database."""
        root = ExpectedRoot(checkpoint.size, checkpoint.root, source)
        return self._replace(outside=(*self.outside, root))


def checkpoint_of(name: str, note: str, verifier: Verifier | None) -> Checkpoint:
    """Returns the checkpoint of this log that a note holds. Raises `BadNote`."""
    checkpoint = verify_note(note, verifier) if verifier is not None else parse(note)
    if checkpoint.origin != name:
        raise BadNote(f"it is for the log {checkpoint.origin}")
    return checkpoint


async def roots_at(
    log: AuditedLog, known: KnownRoots, sizes: range, findings: Findings
) -> list[ExpectedRoot]:
    """Returns the expected roots at these sizes, by size; an unsigned checkpoint is a finding."""
    args = (log.log_id, sizes.start, sizes.stop - 1)
    stored = await log.db.read(Statement(_BETWEEN, args))
    outside = [root for root in known.outside if root.size in sizes]
    return sorted([*outside, *_valid(log, known, stored, findings)])


async def roots_beyond(
    snapshot: Reader, log: AuditedLog, known: KnownRoots, *, size: int, findings: Findings
) -> list[ExpectedRoot]:
    """Returns the expected roots of a log longer than `size`; the hashes are not compared. Returns
    none if a newer log continues this one: the newer log says what was lost."""
    rows = await snapshot.read(Statement(_OUTSIDE, (log.log_id, size)))
    stored = _valid(log, known, rows, findings)
    if known.continued_size is not None and known.continued_size <= size:
        return []
    return stored + [root for root in known.outside if root.size > size]


def _valid(
    log: AuditedLog, known: KnownRoots, rows: Sequence[Row], findings: Findings
) -> list[ExpectedRoot]:
    """Returns the roots of rows of `checkpoints`; a row that its note contradicts is a finding."""
    found = []
    for size, note in rows:
        row = f"checkpoints (size {size})"
        try:
            checkpoint = checkpoint_of(log.name, note, known.verifier)
        except BadNote as error:
            findings.add(log.name, row, str(error))
            continue
        if checkpoint.size != size:
            findings.add(log.name, row, f"its note is for size {checkpoint.size}")
        else:
            found.append(ExpectedRoot(size, checkpoint.root, row))
    return found

"""Which roots must a log have had? What was signed of it: in the database, outside it, and what an
auditor brings along.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
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


class Mark(NamedTuple):
    """A root that the tree had to have at a size, and who says so."""

    size: int
    root: bytes
    said_by: str


class Signed(NamedTuple):
    """What a log is held against."""

    verifier: Verifier | None
    """None where no key is known: then what notes say is held against the log, whoever signed."""
    others: tuple[Mark, ...] = ()
    """Those from outside the database."""
    left: int | None = None
    """How much of the log there was when a newer one went on from it."""

    def of(self, checkpoint: Checkpoint, said_by: str) -> "Signed":
        """With one more."""
        return self._replace(others=(*self.others, Mark(checkpoint.size, checkpoint.root, said_by)))


def said(name: str, note: str, verifier: Verifier | None) -> Checkpoint:
    """The checkpoint of this log that a note holds. Raises `BadNote`."""
    checkpoint = verify_note(note, verifier) if verifier is not None else parse(note)
    if checkpoint.origin != name:
        raise BadNote(f"it is of {checkpoint.origin}")
    return checkpoint


async def marks(log: Log, signed: Signed, sizes: range, findings: Findings) -> list[Mark]:
    """The marks at these sizes, by size; a checkpoint that nobody signed is a finding."""
    args = (log.log_id, sizes.start, sizes.stop - 1)
    stored = await log.db.read(Statement(_BETWEEN, args))
    others = [mark for mark in signed.others if mark.size in sizes]
    return sorted([*others, *_genuine(log, signed, stored, findings)])


async def signed_of_more(
    snapshot: Reader, log: Log, signed: Signed, *, size: int, findings: Findings
) -> list[Mark]:
    """What was signed of this log when it was longer than `size`; the roots are not looked at.

    None where a newer log goes on from this one: what was lost is told there.
    """
    rows = await snapshot.read(Statement(_OUTSIDE, (log.log_id, size)))
    stored = _genuine(log, signed, rows, findings)
    if signed.left is not None and signed.left <= size:
        return []
    return stored + [mark for mark in signed.others if mark.size > size]


def _genuine(log: Log, signed: Signed, rows: Sequence[Row], findings: Findings) -> list[Mark]:
    """The marks of these rows of `checkpoints`; one whose note does not say so is a finding."""
    found = []
    for size, note in rows:
        row = f"checkpoints (size {size})"
        try:
            checkpoint = said(log.name, note, signed.verifier)
        except BadNote as error:
            findings.add(log.name, row, str(error))
            continue
        if checkpoint.size != size:
            findings.add(log.name, row, f"its note is of size {checkpoint.size}")
        else:
            found.append(Mark(size, checkpoint.root, row))
    return found

"""Compares a project's logs in a database with the keys and checkpoints that an auditor trusts.

Also finds logs that are missing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.continued import Continuation
from firmtrail.audit.database import verify_log
from firmtrail.audit.finding import Findings
from firmtrail.audit.growing_tree import GrowingTree
from firmtrail.audit.known_roots import KnownRoots, checkpoint_of
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.database.database import Database
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, Verifier

type KeyLookup = Callable[[AuditedLog], Verifier | None]
"""Returns the key of a log; None if none is known."""


class Trusted(NamedTuple):
    """Holds what an auditor trusts. The notes are those of the logs with these origins."""

    key: KeyLookup
    published: Mapping[str, str]
    """The notes outside the database; they are read before it."""
    seen: Mapping[str, str]
    """The notes of earlier audits."""
    continuations: Mapping[str, Continuation] = {}
    """The continued logs, as the newer logs of the project describe them."""


async def verify(
    log: AuditedLog, trusted: Trusted, findings: Findings, advance: AdvanceProgress
) -> GrowingTree:
    """Checks one log, from the end of the last audit on; returns the tree of its entries. Raises
    `Unavailable`."""
    known, start = KnownRoots(trusted.key(log)), 0
    if published := _opened(log, known, trusted.published, findings):
        known = known.plus(published, "the published checkpoint")
    continuation = trusted.continuations.get(log.name)
    if continuation is not None:
        known = known._replace(continued_size=continuation.size)
        known = _plus_cited(log, known, continuation, findings)
    if seen := _opened(log, known, trusted.seen, findings):
        known = known.plus(seen, "the earlier checkpoint")
        start = seen.size // TILE_WIDTH * TILE_WIDTH
    return await verify_log(log, known, start, findings=findings, advance=advance)


def _plus_cited(
    log: AuditedLog, known: KnownRoots, continuation: Continuation, findings: Findings
) -> KnownRoots:
    """Returns the roots with that of the checkpoint which the newer log cites of a log that was
    moved here. Nothing else ties the two, because no key has signed both."""
    if log.key is None:
        return known
    try:
        cited = checkpoint_of(log.name, continuation.note or "", known.verifier)
    except BadNote as error:
        findings.add(log.name, "the checkpoint in the newer log", str(error))
        return known
    if cited.size != continuation.size:
        what = f"signs {cited.size} entries, but {continuation.size} were moved"
        findings.add(log.name, "the checkpoint in the newer log", what)
    return known.plus(cited, "the checkpoint in the newer log")


def _opened(
    log: AuditedLog, known: KnownRoots, notes: Mapping[str, str], findings: Findings
) -> Checkpoint | None:
    note = notes.get(log.name)
    try:
        return checkpoint_of(log.name, note, known.verifier) if note is not None else None
    except BadNote as error:
        findings.add(log.name, "the checkpoint outside the database", str(error))
        return None


async def find_missing_logs(
    db: Database, logs: Sequence[AuditedLog], trusted: Trusted, findings: Findings
) -> None:
    """Adds a finding for each lost log of these projects that left rows or a checkpoint."""
    await rows.find_orphans(db, findings)
    there = {log.name for log in logs}
    projects = {name.rpartition("/")[0] for name in there}
    for name in (trusted.published.keys() | trusted.seen.keys()) - there:
        if name.rpartition("/")[0] in projects:
            findings.add(name, "log_heads", "is missing, although a checkpoint of the log is known")

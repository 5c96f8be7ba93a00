"""What a project's logs in a database are held against: keys, and what was signed before.

Also whether there are the logs that there must be.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.continued import Old
from firmtrail.audit.database import verify_log
from firmtrail.audit.edge import Edge
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.audit.signed import Signed, said
from firmtrail.audit.verify import Advance
from firmtrail.database.database import Database
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing.checkpoint import BadNote, Checkpoint, Verifier

type Keys = Callable[[str], Verifier | None]
"""The key of an origin; None where none is known."""


class Trusted(NamedTuple):
    """What an auditor takes for true. Notes by the origins of their logs."""

    key: Keys
    published: Mapping[str, str]
    """Kept outside the database, and read before it."""
    seen: Mapping[str, str]
    """Of earlier audits."""
    old: Mapping[str, Old] = {}
    """What newer logs of the project say of it."""


async def verify(log: Log, trusted: Trusted, findings: Findings, advance: Advance) -> Edge:
    """Everything of one log, from the last that was seen of it on; the tree that its entries have.

    Raises `Unavailable`.
    """
    signed, start = Signed(trusted.key(log.name)), 0
    if published := _opened(log, signed, trusted.published, findings):
        signed = signed.of(published, "the published checkpoint")
    old = trusted.old.get(log.name)
    if old is not None:
        signed = signed._replace(left=old.size)
    if seen := _opened(log, signed, trusted.seen, findings):
        signed = signed.of(seen, "the earlier checkpoint")
        start = seen.size // TILE_WIDTH * TILE_WIDTH
    return await verify_log(log, signed, start, findings=findings, advance=advance)


def _opened(
    log: Log, signed: Signed, notes: Mapping[str, str], findings: Findings
) -> Checkpoint | None:
    note = notes.get(log.name)
    try:
        return said(log.name, note, signed.verifier) if note is not None else None
    except BadNote as error:
        findings.add(log.name, "the checkpoint outside the database", str(error))
        return None


async def look_for_logs(
    db: Database, logs: Sequence[Log], trusted: Trusted, findings: Findings
) -> None:
    """Logs of these projects that are gone, though something of them is still there."""
    await rows.orphans(db, findings)
    there = {log.name for log in logs}
    beside = {name.rpartition("/")[0] for name in there}
    for name in (trusted.published.keys() | trusted.seen.keys()) - there:
        if name.rpartition("/")[0] in beside:
            findings.add(name, "log_heads", "is not there, and a checkpoint of it is known")

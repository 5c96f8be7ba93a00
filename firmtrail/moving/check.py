"""Checks a project as an audit does: its rows of access before it stops, and the copies of its logs
before it begins in the other instance."""

from collections.abc import Callable, Sequence

from firmtrail.audit import access, continued, project
from firmtrail.audit.finding import Finding, Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.project import Trusted
from firmtrail.audit.verify import AdvanceProgress
from firmtrail.database.database import Database
from firmtrail.eventstore import log, merkle


class BadCopy(Exception):
    """A copied log differs from the original, or from what was published of it."""

    def __init__(self, found: Finding) -> None:
        super().__init__(
            f"The copy of {found.log} is not right: {found.where}: {found.what}. Nothing was "
            "changed; run `firmtrail audit verify` on the old database."
        )


class BadAccess(Exception):
    """The database has other members, tokens, secrets or webhooks than the project's log."""

    def __init__(self, found: Finding) -> None:
        super().__init__(
            f"The members, tokens, secrets or webhooks are not those that the log {found.log} "
            f"records: {found.where}: {found.what}. `firmtrail audit replay` on --database lists "
            "all differences: remove them first."
        )


type AddBar = Callable[[str, int], AdvanceProgress]
"""Adds a progress bar with a title and a total."""


async def check(
    originals: Sequence[AuditedLog], target: Database, trusted: Trusted, add_bar: AddBar
) -> None:
    """Hashes every copied entry, and compares the trees with the checkpoints and with the heads
    here. Raises `BadCopy` with the first finding."""
    findings = Findings()
    copies = [await _copy(each, target) for each in originals]
    trusted = trusted._replace(continuations=await continued.check(copies, findings))
    for original, copied in zip(originals, copies, strict=True):
        head = await log.head(original.db, original.log_id)
        tree = await project.verify(
            copied, trusted, findings, add_bar(f"check {copied.name}", head.size)
        )
        if (tree.size, tree.root()) != (head.size, merkle.root(head.frontier)):
            what = f"ends at {tree.size} with another root than the original, at {head.size}"
            findings.add(copied.name, "log_heads", what)
    if findings.kept:
        raise BadCopy(findings.kept[0])


async def _copy(original: AuditedLog, target: Database) -> AuditedLog:
    log_id = await log.by_number(target, original.project, original.number)
    assert log_id is not None, "the log was copied"
    return original._replace(db=target, log_id=log_id)


async def check_access(originals: Sequence[AuditedLog]) -> None:
    """Compares members, tokens, secrets and webhooks with the project's logs. Raises `BadAccess`
    with the first finding."""
    findings, newest = Findings(), originals[-1]
    await continued.check(originals, findings)
    if not findings.kept:
        await access.replay(newest.name, newest.project, originals, findings)
    if findings.kept:
        raise BadAccess(findings.kept[0])

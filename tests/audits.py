"""Audits of a project in a database."""

from firmtrail import config
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import AuditScope


async def wrong(url: str, *, verify: bool = False, project: str = "acme") -> list[tuple[str, str]]:
    """Returns (where, what) of the findings of replay, or of verify."""
    findings, wanted = Findings(), AuditScope(config.database(url), project, None)
    if verify:
        await audit_database.verify(wanted, None, None, findings)
    else:
        await audit_database.replay(wanted, findings)
    return [(each.where, each.what) for each in findings.kept]

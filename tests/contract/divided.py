"""Says how small the partitions of tests are, and audits a database that has them."""

from pathlib import Path

from firmtrail import config
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import AuditScope
from firmtrail.schema import checks
from firmtrail.schema.dividing import Division
from tests.databases import opened
from tests.filled import PROJECTS

SMALL = Division(positions=20)


async def faults(url: str, prefix: Path) -> list[str]:
    """Returns what an audit of all projects finds, and what `doctor` finds of the guards."""
    database = config.signed(
        config.database(url), Path(f"{prefix}.key"), Path(f"{prefix}.checkpoints")
    )
    findings = Findings()
    for project in PROJECTS:
        scope = AuditScope(database, project, None)
        await audit_database.verify(scope, None, None, findings)
        await audit_database.replay(scope, findings)
    async with opened(url) as db:
        guards = await checks.postgres_triggers(db)
        return [f"{each.where}: {each.what}" for each in findings.kept] + guards

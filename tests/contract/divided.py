"""Says how small the partitions of tests are; looks at a database that has them, and audits it."""

from pathlib import Path

from firmtrail import config
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import AuditScope
from firmtrail.cli.back_ends import back_end
from firmtrail.schema import checks, partitions
from firmtrail.schema.dividing import Division
from firmtrail.schema.migrate import migrate
from tests.databases import INSTANCE, migrating, opened
from tests.filled import PROJECTS, Files, filled

SMALL = Division(positions=20)
HUNDREDS = Division(positions=100)


async def in_hundreds(url: str) -> Files:
    """Makes a database with data of every kind in partitions of 100 positions."""
    await migrate(migrating(url), INSTANCE, division=HUNDREDS)
    async with opened(url) as db:
        return await filled(db)


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


async def shape(url: str) -> list[tuple[int | None, int | None]]:
    """Returns the bounds of the partitions."""
    async with opened(url) as db:
        return [(start, stop) for _, start, stop in await partitions.partitions(db)]


async def checked(url: str) -> tuple[str, str]:
    """Returns what `doctor` says of the partitions."""
    async with opened(url) as db:
        found = await back_end(config.database(url)).checks_of(db)
        [[_, verdict, text]] = [each for each in found if each.check == "partitions"]
        return verdict, text

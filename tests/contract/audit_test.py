"""What a database keeps of its logs is found wrong where it is, and right where nothing is."""

from pathlib import Path

from firmtrail import config
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import Wanted
from firmtrail.eventstore.database import Database
from tests.databases import read
from tests.filled import PROJECTS, fill


def audited(url: str, beside: Path) -> config.Database:
    """The database as commands get it, with its key and checkpoints."""
    files = Path(f"{beside}.key"), Path(f"{beside}.checkpoints")
    return config.signed(config.database(url), *files)


async def found(database: config.Database) -> Findings:
    """By both commands, for all projects."""
    findings = Findings()
    for project in PROJECTS:
        wanted = Wanted(database, project, None)
        await audit_database.verify(wanted, None, None, findings)
        await audit_database.replay(wanted, findings)
    return findings


async def test_a_database_with_everything_in_it_passes(
    db: Database, database_url: str, tmp_path: Path
) -> None:
    await fill(db, tmp_path / "beside")
    assert len(await read(db, "SELECT log_id FROM log_heads")) == 3
    assert await read(db, "SELECT * FROM subtrees LIMIT 1")
    findings = await found(audited(database_url, tmp_path / "beside"))
    assert findings.kept == []

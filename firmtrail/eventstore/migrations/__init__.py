"""The schema and its versions: raw SQL in numbered files, applied by alembic, on both back ends."""

from pathlib import Path

from firmtrail.eventstore.database import Database, NoSuchTable, Statement

HEAD = "0004"
"""The version of the schema that this code reads and writes."""

FOLDER = Path(__file__).parent


def statements(name: str, back_end: str) -> list[str]:
    """The statements of one file for one back end; a blank line ends a statement.

    Text sorts in byte order on SQLite as it is, and on Postgres by COLLATE "C". A table that is
    found by its key alone is WITHOUT ROWID on SQLite: one tree instead of two.
    """
    collation, without_rowid = (
        (' COLLATE "C"', "") if back_end == "postgresql" else ("", "WITHOUT ROWID")
    )
    script = (FOLDER / "sql" / f"{name}.sql").read_text()
    script = script.replace("/*C*/", collation).replace("/*WITHOUT ROWID*/", without_rowid)
    lines = "\n".join(line for line in script.splitlines() if not line.startswith("--"))
    return [part.strip().removesuffix(";") for part in lines.split(";\n\n")]


async def is_at_head(db: Database) -> bool:
    """Whether the schema is the one that this code reads and writes."""
    try:
        [[version]] = await db.read(Statement("SELECT version_num FROM alembic_version LIMIT 2"))
    except NoSuchTable:
        return False
    return bool(version == HEAD)


async def instance(db: Database) -> str:
    """The name of the installation that the database belongs to; it has one since `migrate`."""
    [[name]] = await db.read(Statement("SELECT name FROM instance LIMIT 2"))
    return str(name)

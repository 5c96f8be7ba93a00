"""Holds the versions of the schema: raw SQL in numbered files, for all back ends.

alembic applies them (`migrate`).
"""

from pathlib import Path
from typing import NamedTuple

from firmtrail.database.database import Database, NoSuchTable, Reader, Statement

FOLDER = Path(__file__).parent

HEAD = max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))
"""The version of the schema that this code reads and writes: that of the newest migration."""


_WORDS = {"postgresql": (' COLLATE "C"', ""), "sqlite": ("", "WITHOUT ROWID")}


def statements(name: str, back_end: str) -> list[str]:
    """Returns the statements of one file of `sql/` for one back end; a blank line ends a statement.

    Text sorts in byte order on SQLite by default, and on Postgres by COLLATE "C". A table whose
    rows are found only by their key is WITHOUT ROWID on SQLite: one tree instead of two.
    """
    collation, without_rowid = _WORDS[back_end]
    script = (FOLDER / "sql" / f"{name}.sql").read_text()
    script = script.replace("/*C*/", collation).replace("/*WITHOUT ROWID*/", without_rowid)
    lines = "\n".join(line for line in script.splitlines() if not line.startswith("--"))
    return [part.strip().removesuffix(";") for part in lines.split(";\n\n")]


KEEP_OLDER_CODE_AWAY = """\
UPDATE instance
SET compatible_from = $1
WHERE coalesce(compatible_from, '') < $1"""
"""Stores that only code of the schema $1 or a later one may use the database, unless it was stored
that only newer code may: something else that was done needs that."""


class Schema(NamedTuple):
    """Describes a database's schema: its revision, and the oldest code that may use it."""

    version: str | None
    """None: the database has no schema."""
    compatible_from: str | None = None
    """Code with this HEAD or a later one may read and write the schema."""

    @property
    def is_usable(self) -> bool:
        """Returns whether this code may read and write it: it is this code's own schema, or a newer
        one that is compatible with this code."""
        if self.version is None or self.version < HEAD:
            return False
        return self.version == HEAD or (self.compatible_from or self.version) <= HEAD

    @property
    def is_too_new(self) -> bool:
        """Returns whether only newer code than this may read and write it."""
        return not self.is_usable and self.version is not None and self.version > HEAD


async def schema(db: Reader) -> Schema:
    """Reads the revision of the database's schema."""
    try:
        [[version]] = await db.read(Statement("SELECT version_num FROM alembic_version LIMIT 2"))
    except NoSuchTable:
        return Schema(None)
    if version <= HEAD:
        return Schema(version)
    [[compatible_from]] = await db.read(Statement("SELECT compatible_from FROM instance LIMIT 2"))
    return Schema(version, compatible_from)


async def is_usable(db: Database) -> bool:
    """Returns whether this code may read and write the schema of the database."""
    return (await schema(db)).is_usable


async def instance(db: Database) -> str:
    """Returns the name of the installation that the database belongs to; `migrate` sets it."""
    [[name]] = await db.read(Statement("SELECT name FROM instance LIMIT 2"))
    return str(name)

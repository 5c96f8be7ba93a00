"""Finds roles that a Postgres lacks, before a migration grants them anything."""

from collections.abc import Iterable

from firmtrail.database.database import Database, Statement

_ROLES = "SELECT rolname FROM pg_roles ORDER BY rolname LIMIT 100000"


async def missing(db: Database, names: Iterable[str]) -> list[str]:
    """Returns those of the names that no role of the Postgres has."""
    there = {name for (name,) in await db.read(Statement(_ROLES))}
    return [name for name in names if name not in there]

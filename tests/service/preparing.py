"""Leaves views live in the form of another version, and prepared for this one."""

import asyncio

from firmtrail.database.database import Database
from firmtrail.projections import fold
from tests.databases import read, write
from tests.patience import PATIENCE_S
from tests.service.site import Site

OLDER = "UPDATE views SET revision = revision"
ONE_SWITCHED = "CREATE UNIQUE INDEX one_switched ON views (log_id) WHERE generation > 1"
"""Lets the database refuse a switch to new views, after the first view."""
ALL_SWITCHED = "DROP INDEX one_switched /* after its CREATE */"
"""Ends that. SQLite's driver takes a text for a SELECT unless it has a word such as CREATE."""


async def prepare(site: Site, db: Database) -> None:
    """Leaves the views of all projects live as another version's, and prepared for this one."""
    await write(db, f"{OLDER} - 1")
    builder = site.services.builder
    await builder.look()
    await builder.begin()
    async with asyncio.timeout(PATIENCE_S):
        while await read(db, "SELECT 1 FROM rebuilds WHERE seen_at_ms > 0") or len(
            builder.prepared
        ) < len(builder.unfit):
            await asyncio.sleep(0.01)


async def revisions(db: Database, log_id: int) -> dict[str, int]:
    return {name: revision for name, revision, _ in await db.read(fold.live(log_id))}

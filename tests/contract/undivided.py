"""Makes databases as versions before schema 0013 leave them, for tests of the way from there."""

import contextlib
from collections.abc import AsyncIterator

from alembic import command
from sqlalchemy import Connection, text

from firmtrail.schema import migrate as schema
from firmtrail.schema import migrations
from tests.contract.migrations import run_outside
from tests.databases import INSTANCE, migrating

BEFORE = "0012"


async def migrate_to(url: str, revision: str) -> None:
    """Brings an empty PostgreSQL to a revision, as the version with this newest revision does."""
    database = migrating(url)
    target = schema._Target(
        database, INSTANCE, schema.NO_ROLES, schema.AS_IT_IS, lambda *_: None, (schema.VERSIONS,)
    )

    def do(connection: Connection) -> None:
        command.upgrade(schema._config(connection, target), revision)
        named = "INSERT INTO instance (name, compatible_from) VALUES (:name, '0005')"
        connection.execute(text(named), {"name": INSTANCE})
        connection.commit()

    engine = schema._engine(database)
    async with engine.connect() as connection:
        await connection.run_sync(do)
    await engine.dispose()


@contextlib.asynccontextmanager
async def before_identities(url: str) -> AsyncIterator[None]:
    """Makes the schema of before; inside, this version's code can fill it: `events` has the index,
    and stands in for what reads identities."""
    await migrate_to(url, BEFORE)
    await run_outside(url, *migrations.statements("0013_identities.sqlite", "sqlite"))
    yield
    names = ("identities", "events_by_stream", "event_partitions")
    await run_outside(url, *(f"DROP VIEW {name}" for name in names))

"""`firmtrail migrate`: the schema of this version, and the name of the installation."""

import click

from firmtrail import config
from firmtrail.cli import loop, parts
from firmtrail.cli.output import note
from firmtrail.eventstore import migrate as schema
from firmtrail.eventstore import migrations
from firmtrail.eventstore.held_file import Locked
from firmtrail.eventstore.sqlite import SQLite
from firmtrail.main import CouldNotRun


@click.command()
@click.option("--instance", default="firmtrail", help="The name of this installation.")
@click.option(
    "--service-role", metavar="NAME", help="A Postgres role that gets what serving needs."
)
@click.option(
    "--auditor-role", metavar="NAME", help="A Postgres role that gets what an audit reads."
)
@click.pass_obj
def migrate(
    database: config.Database, *, instance: str, service_role: str | None, auditor_role: str | None
) -> None:
    """Bring the database to this version's schema; one that has it stays as it is, also while a
    server holds it.

    Postgres: run it as the owner of the database. --service-role grants a role of yours what
    `firmtrail serve` needs and nothing more: it can add events, and never change or delete one.
    --auditor-role grants another what `firmtrail audit` reads: no address, no digest of a secret.
    """
    roles = schema.Roles(service_role, auditor_role)
    if roles != schema.NOBODY and isinstance(database, config.Embedded):
        raise click.UsageError("--service-role and --auditor-role are for Postgres.")
    try:
        loop.run(_migrate(database, instance, roles))
    except schema.WrongInstance as error:
        raise CouldNotRun(f"{error}.") from error
    except schema.NewerSchema as error:
        raise CouldNotRun(
            f"{database} was migrated by a newer version, and nothing was changed. Use that "
            "version to migrate; `firmtrail doctor` says whether this one can still serve."
        ) from error
    note(f"{database} has the schema of this version.")


async def _migrate(database: config.Database, instance: str, roles: schema.Roles) -> None:
    try:
        async with parts.opened(database):  # a file: nobody else may write to it meanwhile
            await schema.migrate(database.url, instance, roles, progress=_show)
    except Locked as error:
        assert isinstance(database, config.Embedded)
        if not await _has_schema(database, instance):
            raise CouldNotRun(
                f"{error}, and it has another schema: stop that process, and start this version's, "
                "which migrates it by itself."
            ) from error


def _show(name: str, done: int) -> None:
    note(f"{name}: {done} rows")


async def _has_schema(database: config.Embedded, instance: str) -> bool:
    """Whether there is nothing to do in a file that another process writes."""
    db = await SQLite.open_to_read(database.path)
    try:
        if not await migrations.is_usable(db):
            return False
        if (stored := await migrations.instance(db)) != instance:
            raise schema.WrongInstance(stored, instance)
        return True
    finally:
        await db.close()

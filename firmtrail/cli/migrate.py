"""`firmtrail migrate`: brings a database to this version's schema, and names the installation."""

import click
from sqlalchemy.exc import DBAPIError

from firmtrail import config
from firmtrail.cli import loop, opening, parts
from firmtrail.cli.output import note
from firmtrail.database.database import Database
from firmtrail.database.file_lock import Locked
from firmtrail.database.sqlite import SQLite
from firmtrail.exits import CouldNotRun
from firmtrail.schema import checks, migrations
from firmtrail.schema import migrate as schema


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
    """Bring the database to this version's schema. A database that has it stays as it is, also
    while a server has it open.

    On Postgres, run this as the owner of the database. --service-role grants an existing role what
    `firmtrail serve` needs and nothing more: it can add events, and never change or delete one.
    --auditor-role grants another what `firmtrail audit` reads: no address, no digest of a secret.
    """
    roles = schema.Roles(service_role, auditor_role)
    if roles != schema.NO_ROLES and isinstance(database, config.Embedded):
        raise click.UsageError(
            "--service-role and --auditor-role are for Postgres: a file has no roles."
        )
    opening.note_new(database)
    try:
        loop.run(_migrate(database, instance, roles))
    except schema.WrongInstance as error:
        raise CouldNotRun(
            f"{str(error).capitalize()}: say --instance {error.stored}, or name another database."
        ) from error
    except schema.NewerSchema as error:
        raise CouldNotRun(
            f"{database} was migrated by a newer version, and nothing was changed. Use that "
            "version to migrate; `firmtrail doctor` says whether this one can still serve."
        ) from error
    note(f"{database} has the schema of this version.")


async def _migrate(database: config.Database, instance: str, roles: schema.Roles) -> None:
    try:
        async with parts.opened(database) as db:  # a file: nobody else may write to it meanwhile
            await _check_roles(db, roles)
            await schema.migrate(database.url, instance, roles, progress=_show)
    except DBAPIError as error:
        said = str(error.orig).partition(">: ")[2] or str(error.orig)
        raise CouldNotRun(
            f"The migration of {database} stopped ({said.splitlines()[0]}). Nothing is half-done: "
            "run it again as the owner of the database."
        ) from error
    except Locked as error:
        assert isinstance(database, config.Embedded)
        if not await _has_schema(database, instance):
            raise CouldNotRun(
                f"{error}, and it has another schema: stop that process, and start this version's, "
                "which migrates it automatically."
            ) from error


async def _check_roles(db: Database, roles: schema.Roles) -> None:
    """Find a role that is not there while nothing is changed yet."""
    names = [name for name in roles if name is not None]
    if names and (missing := await checks.missing_roles(db, names)):
        raise CouldNotRun(
            f"The Postgres has no role {missing[0]}, so nothing was migrated: create it first, "
            f'with CREATE ROLE "{missing[0]}" LOGIN.'
        )


def _show(name: str, done: int) -> None:
    note(f"{name}: {done} rows")


async def _has_schema(database: config.Embedded, instance: str) -> bool:
    """Whether there is nothing to do in a file that another process writes."""
    db = await SQLite.open_read_only(database.path)
    try:
        if not await migrations.is_usable(db):
            return False
        if (stored := await migrations.instance(db)) != instance:
            raise schema.WrongInstance(stored, instance)
        return True
    finally:
        await db.close()

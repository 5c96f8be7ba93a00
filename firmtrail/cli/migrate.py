"""`firmtrail migrate`: brings a database to this version's schema, and names the installation."""

import click
from sqlalchemy.exc import DBAPIError

from firmtrail import config
from firmtrail.cli import loop, opening
from firmtrail.cli.back_ends import back_end
from firmtrail.cli.output import note
from firmtrail.database.database import Database
from firmtrail.database.file_lock import Locked
from firmtrail.exits import CouldNotRun
from firmtrail.schema import checks, migrations, partitions
from firmtrail.schema import migrate as schema
from firmtrail.schema.dividing import RANGE_POSITIONS, Division, MisplacedEvents
from firmtrail.schema.partitions import Partition


@click.command()
@click.option("--instance", default="firmtrail", help="The name of this installation.")
@click.option("--service-role", metavar="NAME", help="A Postgres role to grant what serving needs.")
@click.option(
    "--auditor-role", metavar="NAME", help="A Postgres role to grant what an audit reads."
)
@click.option(
    "--partition",
    is_flag=True,
    help="Divide the events of a Postgres that was not divided when it was new. Afterwards, "
    "versions from before schema 0015 can't use the database.",
)
@click.option(
    "--positions",
    type=click.IntRange(1000),
    default=RANGE_POSITIONS,
    show_default=True,
    help="How many events of a log each new partition holds.",
)
@click.pass_obj
def migrate(
    database: config.DatabaseUrl,
    *,
    instance: str,
    service_role: str | None,
    auditor_role: str | None,
    partition: bool,
    positions: int,
) -> None:
    """Migrate the database to this version's schema. A database that has this schema is not
    changed, even while a server has it open.

    On Postgres, run this as the owner of the database. --service-role grants an existing role what
    `firmtrail serve` needs and nothing more: it can add events, but never change or delete one.
    --auditor-role grants another role what `firmtrail audit` reads: no address, no digest of a
    secret.

    On Postgres, a new database keeps its events in partitions, and each run adds one before a log
    needs it: docs/scale.md.
    """
    roles = schema.Roles(service_role, auditor_role)
    if roles != schema.NO_ROLES and not database.has_roles:
        raise click.UsageError(
            "--service-role and --auditor-role are for Postgres: a file has no roles."
        )
    if partition and not database.has_roles:
        raise click.UsageError("--partition is for Postgres: a file is not divided.")
    opening.note_new(database)
    try:
        parts = loop.run(_migrate(database, instance, roles, Division(partition, positions)))
    except schema.WrongInstance as error:
        raise CouldNotRun(
            f"{str(error).capitalize()}: give --instance {error.stored}, or name another database."
        ) from error
    except schema.NewerSchema as error:
        raise CouldNotRun(
            f"Nothing was changed, because a newer version migrated {database}. Migrate with that "
            "version; `firmtrail doctor` reports whether this version can still serve."
        ) from error
    note(f"{database} has the schema of this version.{_shown(parts)}")


async def _migrate(
    database: config.DatabaseUrl, instance: str, roles: schema.Roles, division: Division
) -> list[Partition]:
    """Migrates, and returns the partitions of `events`; none if it is one table."""
    try:
        chosen = back_end(database)
        async with chosen.opened() as db:  # locks a file: no other process may write
            await _check_roles(db, roles)
            await schema.migrate(
                chosen.migrating(),
                instance,
                roles,
                division=division,
                progress=lambda name, done: note(f"{name}: {done} rows"),
            )
            return await partitions.partitions(db) if database.has_roles else []
    except MisplacedEvents as error:
        raise CouldNotRun(str(error)) from error
    except DBAPIError as error:
        reason = str(error.orig).partition(">: ")[2] or str(error.orig)
        raise CouldNotRun(
            f"The migration of {database} failed ({reason.splitlines()[0]}). It left nothing "
            "half-done: run it again as the owner of the database."
        ) from error
    except Locked as error:
        if not await _has_schema(database, instance):
            raise CouldNotRun(
                f"{error}, and it has another schema: stop that process, and start a server of "
                "this version, which migrates the file automatically."
            ) from error
        return []


def _shown(parts: list[Partition]) -> str:
    """Returns how `events` is divided, as a sentence to append."""
    if len(parts) < 2:
        return ""
    return f" Its events are in {len(parts)} partitions; the last begins at {parts[-1].start}."


async def _check_roles(db: Database, roles: schema.Roles) -> None:
    """Raises `CouldNotRun` for a role that does not exist, before anything is changed."""
    names = [name for name in roles if name is not None]
    if names and (missing := await checks.missing_roles(db, names)):
        raise CouldNotRun(
            f"Nothing was migrated, because Postgres has no role {missing[0]}: create it first "
            f'with CREATE ROLE "{missing[0]}" LOGIN.'
        )


async def _has_schema(database: config.DatabaseUrl, instance: str) -> bool:
    """Returns whether a file that another process has open needs no migration."""
    async with back_end(database).opened_to_read() as db:
        if not await migrations.is_usable(db):
            return False
        if (stored := await migrations.instance(db)) != instance:
            raise schema.WrongInstance(stored, instance)
        return True

"""`firmtrail archive prune`: drops the texts of old entries that the archive has."""

import time
from typing import NamedTuple

import click
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from firmtrail import config
from firmtrail.access import projects
from firmtrail.archive import positions, pruned
from firmtrail.archive import prune as pruning
from firmtrail.archive.prune import PruneScope
from firmtrail.archive.stores import ArchiveRefused, store_at
from firmtrail.cli import loop, output
from firmtrail.cli.assembly import check_schema, location_name
from firmtrail.cli.back_ends import back_end
from firmtrail.cli.numbers import Whole
from firmtrail.cli.output import FOUND_WRONG, json_option, note
from firmtrail.database.database import Database, NotAllowed
from firmtrail.database.file_lock import Locked
from firmtrail.exits import CouldNotRun

DAY_MS = 24 * 60 * 60 * 1000


class Pruned(NamedTuple):
    """Counts what the command replaced, or would replace."""

    entries: int = 0
    bytes: int = 0


@click.group()
def archive() -> None:
    """Prune from the database what the archive has."""


@archive.command()
@click.option(
    "--older-than",
    "older_than_days",
    metavar="DAYS",
    type=Whole(1, 36_500),
    required=True,
    envvar="FIRMTRAIL_ARCHIVE_KEEP_DAYS",
    show_envvar=True,
    help="Keep the entries of the last DAYS days in the database.",
)
@click.option("--project", help="Only the logs of this project; without it, of all projects.")
@click.option("--dry-run", is_flag=True, help="Read and compare the same; change nothing.")
@json_option
@click.pass_obj
@click.pass_context
def prune(
    ctx: click.Context,
    database: config.DatabaseUrl,
    /,
    *,
    older_than_days: int,
    project: str | None,
    dry_run: bool,
    json: bool,
) -> None:
    """Replace old entries of devices in the database by their hashes, once the archive was seen to
    have them.

    Everything that reads an old entry then reads it from the archive, so give the archive to all
    servers and commands, with --archive before the command, and keep it for ever. On PostgreSQL,
    run this as the owner of the database; servers may run. A file must not be served meanwhile.

    The command can be interrupted and run again: it continues. The exit code is 1 if the archive
    does not have what the database has.
    """
    before_ms = int(time.time() * 1000) - older_than_days * DAY_MS
    try:
        done = loop.run(_prune(database, project or "", before_ms, is_dry=dry_run))
    except ArchiveRefused as error:
        note(f"Nothing more was pruned: {error}. Run `firmtrail audit verify`.")
        ctx.exit(FOUND_WRONG)
    if json:
        output.show_json(done._asdict())
        return
    what = "would be replaced" if dry_run else "were replaced"
    note(f"{done.entries} entries {what} by their hashes, which are {done.bytes} bytes shorter.")


async def _prune(
    database: config.DatabaseUrl, project: str, before_ms: int, *, is_dry: bool
) -> Pruned:
    location = database.archive
    if location is None:
        raise click.UsageError("Name the archive: firmtrail --archive LOCATION archive prune …")
    wanted, done = PruneScope(location_name(location), before_ms, project), Pruned()
    try:
        async with back_end(database).opened() as db:
            await check_schema(db, database)
            await _check_scope(db, wanted)
            await db.allow_pruning()
            if not await pruned.logs(db, wanted.location, wanted.project):
                of = f" of the project {project}" if project else ""
                note(f"{location} has no log{of}: a server with --archive {location} adds them.")
            with output.progress(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
                tasks = {}
                async for step in pruning.prune(db, store_at(location), wanted, is_dry=is_dry):
                    if step.log not in tasks:
                        tasks[step.log] = bar.add_task(step.log, total=step.stop)
                    bar.update(tasks[step.log], completed=step.size)
                    done = Pruned(done.entries + step.entries, done.bytes + step.bytes)
    except Locked as error:
        raise CouldNotRun(
            f"{error}: stop that server while the file is pruned, and start it again."
        ) from error
    except NotAllowed as error:
        raise CouldNotRun(
            f"This role may not prune ({error}): run the command as the owner of the database."
        ) from error
    return done


async def _check_scope(db: Database, scope: PruneScope) -> None:
    """Raises `CouldNotRun` if no log can be pruned because the project or the archive is another
    one than that of the servers."""
    if scope.project and not await projects.is_there(db, scope.project):
        raise CouldNotRun(
            f"There is no project {scope.project}: `firmtrail project list` lists the projects."
        )
    if await pruned.logs(db, scope.location, ""):
        return
    others = ", ".join(await positions.locations(db))
    what_to_do = (
        f"They are archived in {others}: name that archive"
        if others
        else f"A server with --archive {scope.location} adds each log that has 256 entries: run "
        "the command again when one is there"
    )
    raise CouldNotRun(
        f"Nothing was pruned: no server has archived a log of this database in {scope.location}. "
        f"{what_to_do}."
    )

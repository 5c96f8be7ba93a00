"""`firmtrail backup FILE`: makes a consistent copy of the database and of its checkpoints.

It only reads, so it can run next to a server. The copy contains at least what the checkpoints sign,
so `firmtrail audit verify` can compare a restored copy with them.
"""

from pathlib import Path

import click

from firmtrail import config
from firmtrail.audit import notes
from firmtrail.cli import audit_inputs, loop
from firmtrail.cli.back_ends import back_end
from firmtrail.database import files
from firmtrail.exits import CouldNotRun
from firmtrail.publishing import published


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def backup(database: config.DatabaseUrl, file: Path) -> None:
    """Copy the database to FILE as it is at one moment, also while servers run.

    An embedded database is copied to a database file; of Postgres, pg_dump makes an archive for
    pg_restore. FILE.checkpoint contains the last checkpoint of each log, for `firmtrail audit
    verify --from`. The signing key and the file of published checkpoints are not copied: back them
    up separately.
    """
    if file.exists():
        raise CouldNotRun(
            f"{file} exists already, and a backup never replaces a file: name another file."
        )
    signed = loop.run(_last_notes(database))
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    try:
        back_end(database).copy(new)
        if signed:
            notes.write(file.with_name(f"{file.name}.checkpoint"), signed)
        _into_place(new, file)
    finally:
        new.unlink(missing_ok=True)
    click.echo(f"{file} is a copy of {database}.")


async def _last_notes(database: config.DatabaseUrl) -> list[str]:
    """Reads the last checkpoints, before the copy is made: it then contains what they sign."""
    async with audit_inputs.opened_to_read(database) as db:
        found = [
            await db.read(published.latest([(log.log_id,) for log in logs]))
            async for logs in published.all_logs(db)
        ]
    return [note for rows in found for _, _, note in rows]


def _into_place(new: Path, file: Path) -> None:
    """Gives the copy its name once it is complete and on the disk."""
    files.sync(new)
    new.replace(file)
    files.sync(file.absolute().parent)

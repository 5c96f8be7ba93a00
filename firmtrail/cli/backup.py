"""`firmtrail backup FILE`: makes a consistent copy of the database, and of its checkpoints.

It only reads, so it can run next to a server. The copy holds at least what the checkpoints sign, so
`firmtrail audit verify` of a restored copy can be held against them.
"""

import subprocess
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import click
from rich.progress import TimeRemainingColumn

from firmtrail import config, environment
from firmtrail.audit import notes
from firmtrail.cli import audit_open, loop, output
from firmtrail.database import files, sqlite_copy
from firmtrail.exits import CouldNotRun
from firmtrail.publishing import published


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def backup(database: config.Database, file: Path) -> None:
    """Copy the database to FILE as it is at one moment, while servers run or not.

    An embedded database becomes a database file; of Postgres, pg_dump makes an archive for
    pg_restore. FILE.checkpoint holds the last checkpoint of each log, for `firmtrail audit verify
    --from`. The signing key and the file of published checkpoints are not copied: keep them apart.
    """
    if file.exists():
        raise CouldNotRun(f"{file} exists already, and no backup is replaced: name another file.")
    signed = loop.run(_last_notes(database))
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    try:
        if isinstance(database, config.Embedded):
            _copy(database.path, new)
        else:
            _dump(database.url, new)
        if signed:
            notes.write(_beside(file), signed)
        _into_place(new, file)
    finally:
        new.unlink(missing_ok=True)
    click.echo(f"{file} is a copy of {database}.")


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.name}.checkpoint")


async def _last_notes(database: config.Database) -> list[str]:
    """Read before the copy is made, so that it holds what they sign."""
    async with audit_open.reading(database) as db:
        found = [
            await db.read(published.latest([(log.log_id,) for log in logs]))
            async for logs in published.all_logs(db)
        ]
    return [note for rows in found for _, _, note in rows]


def _copy(source: Path, target: Path) -> None:
    with output.progress(TimeRemainingColumn()) as progress:
        bar = progress.add_task("Copying", total=None)

        def copied(remaining: int, total: int) -> None:
            progress.update(bar, total=total, completed=total - remaining)

        sqlite_copy.copy(source, target, copied)


def _dump(url: str, target: Path) -> None:
    """The password goes by the environment: a command line is for all to read."""
    plain, password = _without_password(url)
    target.touch(mode=files.PRIVATE, exist_ok=False)
    secret = {"PGPASSWORD": password} if password else {}
    command = ("pg_dump", "--format=custom", f"--file={target}", f"--dbname={plain}")
    env = environment.of_process(**secret)
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603 (no shell; what is put in is the user's own)
    except FileNotFoundError:
        raise CouldNotRun(
            "A backup of Postgres needs its program pg_dump, which is not on PATH: install the "
            "client programs of Postgres."
        ) from None
    if done.returncode != 0:
        raise CouldNotRun(f"pg_dump: {done.stderr.strip()}")


def _without_password(url: str) -> tuple[str, str]:
    """It may stand before the host or among the options, as libpq takes it."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    of_options = dict(options).get("password", "")
    query = urlencode([option for option in options if option[0] != "password"], quote_via=quote)
    plain = urlunsplit(parts._replace(netloc=f"{name}{at}{host}", query=query))
    return plain, of_options or unquote(password)


def _into_place(new: Path, file: Path) -> None:
    """Whole and on the disk, or not there."""
    files.sync(new)
    new.replace(file)
    files.sync(file.absolute().parent)

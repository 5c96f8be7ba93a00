"""`firmtrail log`: makes a project whose log takes no appends writable again, and trims its access
record."""

import click

from firmtrail import config
from firmtrail.cli import local, loop, remote
from firmtrail.cli.numbers import Whole
from firmtrail.cli.output import note


@click.group()
def log() -> None:
    """Make a project whose log takes no appends writable again; trim its access record."""


@log.command("continue")
@remote.project_option
@click.option("--even-if-whole", is_flag=True, help="Continue even if the log is intact.")
@click.pass_obj
def continue_log(database: config.DatabaseUrl, *, project: str, even_if_whole: bool) -> None:
    """Start a new log of a project that continues what is left of the old one.

    Use it when a log takes no appends because it ends before its last checkpoint or differs from
    it, and can't be restored. The old log is closed and stays readable; the new log begins with an
    event that cites the old log's last checkpoint. Devices keep their secrets, views and receipts.
    """
    body = {"even_if_whole": even_if_whole}
    done = local.post(database, f"/local/projects/{project}/logs", body)
    note(
        f"Project {project} now writes to its log {done['log']}, which continues the first "
        f"{done['size']} events of log {done['continues']}."
    )


@log.command("accept-clock")
@remote.project_option
@click.pass_obj
def accept_clock(database: config.DatabaseUrl, *, project: str) -> None:
    """Write again to a log whose last event is far ahead of the clock.

    Use it when writes are refused because a clock had jumped ahead, and set the clock right first.
    New events get the time of the last event until the clock reaches that time; order, proofs and
    receipts stay as they are.
    """
    done = local.post(database, f"/local/projects/{project}/clock", {})
    note(
        f"Project {project} writes to its log {done['log']} again. New events get the time "
        f"{done['recorded_at']} until the clock reaches it."
    )


@log.command("trim-access-record")
@remote.project_option
@click.option(
    "--older-than",
    "older_than_days",
    metavar="DAYS",
    type=Whole(1, 36_500),
    required=True,
    help="Delete the records of reads that are older than this many days.",
)
@click.pass_obj
def trim_access_record(database: config.DatabaseUrl, *, project: str, older_than_days: int) -> None:
    """Delete old records of who read the log.

    Only records that a seal in the log covers are deleted, and the log records that they are. On
    PostgreSQL, --database must name the role that owns the tables. Take a copy before, with
    `firmtrail backup`, if the records have to be kept elsewhere.
    """
    deleted, size = loop.run(_trimmed(database, project, older_than_days))
    note(
        f"{deleted} records of reads of project {project} were deleted. Of all that were ever "
        f"recorded, the first {size} are gone."
    )


async def _trimmed(database: config.DatabaseUrl, project: str, days: int) -> tuple[int, int]:
    """Asks until nothing more is deleted, since one request deletes a limited number. Returns how
    many records were deleted, and how many of the first are gone."""
    deleted = 0
    async with local.service(database) as session:
        while True:
            path, body = f"/local/projects/{project}/access-record", {"older_than_days": days}
            done = await local.ask(session, "POST", path, body)
            deleted += done["deleted"]
            if done["deleted"] == 0:
                return deleted, done["size"]

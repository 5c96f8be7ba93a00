"""`firmtrail log`: makes a project writable again whose log takes no appends."""

import click

from firmtrail import config
from firmtrail.cli import local, remote
from firmtrail.cli.output import note


@click.group()
def log() -> None:
    """Make a project writable again whose log takes no appends."""


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

"""`firmtrail log`: makes a project write again whose log takes no appends."""

import click

from firmtrail import config
from firmtrail.cli import local, remote
from firmtrail.cli.output import note


@click.group()
def log() -> None:
    """Write again where a log takes no appends."""


@log.command("continue")
@remote.in_project
@click.option("--even-if-whole", is_flag=True, help="Do it even if nothing is wrong with the log.")
@click.pass_obj
def continue_log(database: config.Database, *, project: str, even_if_whole: bool) -> None:
    """Start a new log of a project that continues what is left of the old one.

    It is for a project whose log is refused because it ends before its last checkpoint, or
    differs from it, and can't be restored. The old log is closed and stays readable; the new one
    begins with an event that cites its last checkpoint. Devices keep their secrets, views and
    receipts.
    """
    body = {"even_if_whole": even_if_whole}
    done = local.post(database, f"/local/projects/{project}/logs", body)
    note(
        f"Project {project} writes to its log {done['log']}, which continues the first "
        f"{done['size']} events of log {done['continues']}."
    )


@log.command("accept-clock")
@remote.in_project
@click.pass_obj
def accept_clock(database: config.Database, *, project: str) -> None:
    """Write to a log whose last event is far ahead of the clock.

    For a project whose writes are refused because a clock had jumped ahead. New events carry the
    time of the last one until the clock has reached it; order, proofs and receipts stay as they
    are. Set the clock right first.
    """
    done = local.post(database, f"/local/projects/{project}/clock", {})
    note(
        f"Project {project} writes to its log {done['log']} again. Its events carry the time "
        f"{done['recorded_at']} until the clock has reached it."
    )

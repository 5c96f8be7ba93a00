"""`firmtrail log`: starts a new log where the old one is not what was published of it."""

import click

from firmtrail import config
from firmtrail.cli import local, loop, remote
from firmtrail.cli.output import note


@click.group()
def log() -> None:
    """Start a new log where one was lost."""


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

    async def ask() -> dict[str, int]:
        async with local.service(database) as session:
            body = {"even_if_whole": even_if_whole}
            answer = await local.ask(session, "POST", f"/local/projects/{project}/logs", body)
            return dict(answer)

    done = loop.run(ask())
    note(
        f"Project {project} writes to its log {done['log']}, which continues the first "
        f"{done['size']} events of log {done['continues']}."
    )

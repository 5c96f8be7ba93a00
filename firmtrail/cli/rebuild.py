"""`firmtrail rebuild`: builds views again from the log, and shows the progress.

The service does the work. A server that has the file open continues when this command is
interrupted; otherwise this process does the work, and the next `firmtrail rebuild` continues it.
"""

import asyncio
import time
from typing import Any, NamedTuple

import click
from aiohttp import ClientSession
from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

from firmtrail import config
from firmtrail.cli import local, loop, output, remote
from firmtrail.cli.output import FOUND_WRONG, json_option, note
from firmtrail.projections import fold

POLL_EVERY_S = 0.2


class FinishedRebuild(NamedTuple):
    """Holds the outcome of a rebuild."""

    views: list[str]
    events: int
    """The events folded while this command watched."""
    seconds: float
    failure: str | None


@click.command()
@remote.project_option
@click.option("--view", help="Rebuild only this view; without it, all views.")
@json_option
@click.pass_obj
@click.pass_context
def rebuild(
    ctx: click.Context, database: config.DatabaseUrl, *, project: str, view: str | None, json: bool
) -> None:
    """Build the views of a project again from its log, while the present views stay in use.

    If the command is interrupted, the server that has the database open continues; without a
    server, run the command again. The exit code is 1 if the views can't be built from the log.
    """
    finished = loop.run(_rebuild(database, project, view))
    if finished.failure:
        note(finished.failure)
        ctx.exit(FOUND_WRONG)
    per_s = round(finished.events / finished.seconds)
    if json:
        seconds = round(finished.seconds, 3)
        output.show_json(
            {
                "views": finished.views,
                "events": finished.events,
                "seconds": seconds,
                "events_per_s": per_s,
            }
        )
    else:
        click.echo(f"{', '.join(finished.views)}: {finished.events} events, {per_s} per second")


async def _rebuild(database: config.DatabaseUrl, project: str, view: str | None) -> FinishedRebuild:
    path = f"/local/projects/{project}/rebuild"
    async with local.service(database) as session:
        began = time.perf_counter()
        state = await local.ask(session, "POST", path, {"view": view} if view else {})
        first, last, failure = await _watch(session, path, state)
    views = [view] if view else sorted(fold.REVISIONS)
    return FinishedRebuild(views, last - first, time.perf_counter() - began, failure)


async def _watch(
    session: ClientSession, path: str, state: dict[str, Any]
) -> tuple[int, int, str | None]:
    """Shows the progress until the new views are in use. Returns the first and last positions that
    were folded meanwhile, and the failure that ended the rebuild, if any."""
    began, first, generation = time.perf_counter(), state["position"] or 0, state["generation"]
    rate = TextColumn("{task.fields[per_s]:.0f}/s")
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn(), rate) as bar:
        task = bar.add_task("Rebuilding", total=state["size"], completed=first, per_s=0)
        while state["generation"] == generation is not None:
            if state["failure"] and not state["is_running"]:
                return first, state["position"], state["failure"]
            per_s = (state["position"] - first) / (time.perf_counter() - began)
            bar.update(task, total=state["size"], completed=state["position"], per_s=per_s)
            await asyncio.sleep(POLL_EVERY_S)
            state = await local.ask(session, "GET", path)
        bar.update(task, total=state["size"], completed=state["size"])
        while state["is_running"] and state["generation"] is None:  # deletes the views replaced
            await asyncio.sleep(POLL_EVERY_S)
            state = await local.ask(session, "GET", path)
    return first, state["size"], state["failure"]

"""`firmtrail rebuild`: builds views again from the log, and shows how far it is.

The service does it. A server that has the file open continues when this command is interrupted;
otherwise this process does the work, and the next command continues what it leaves unfinished.
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

LOOK_EVERY_S = 0.2


class Watched(NamedTuple):
    """A rebuild to its end."""

    views: list[str]
    events: int
    """Folded while this command looked on."""
    seconds: float
    failure: str | None


@click.command()
@remote.in_project
@click.option("--view", help="Only this view; without it, all of them.")
@json_option
@click.pass_obj
@click.pass_context
def rebuild(
    ctx: click.Context,
    database: config.Database,
    *,
    project: str,
    view: str | None,
    json: bool,
) -> None:
    """Build the views of a project again from its log, while the old ones serve.

    If the command is interrupted, the server that has the database open continues; without a
    server, run the command again. The exit code is 1 where the log can't be folded.
    """
    watched = loop.run(_rebuild(database, project, view))
    if watched.failure:
        note(watched.failure)
        ctx.exit(FOUND_WRONG)
    per_s = round(watched.events / watched.seconds)
    if json:
        seconds = round(watched.seconds, 3)
        output.show_json(
            {
                "views": watched.views,
                "events": watched.events,
                "seconds": seconds,
                "events_per_s": per_s,
            }
        )
    else:
        click.echo(f"{', '.join(watched.views)}: {watched.events} events, {per_s} per second")


async def _rebuild(database: config.Database, project: str, view: str | None) -> Watched:
    path = f"/local/projects/{project}/rebuild"
    async with local.service(database) as session:
        began = time.perf_counter()
        state = await local.ask(session, "POST", path, {"view": view} if view else {})
        first, last, failure = await _watch(session, path, state)
    views = [view] if view else sorted(fold.REVISIONS)
    return Watched(views, last - first, time.perf_counter() - began, failure)


async def _watch(
    session: ClientSession, path: str, state: dict[str, Any]
) -> tuple[int, int, str | None]:
    """Show it until it is live; from which position to which it went, and what ended it else."""
    began, first, generation = time.perf_counter(), state["position"] or 0, state["generation"]
    rate = TextColumn("{task.fields[per_s]:.0f}/s")
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn(), rate) as bar:
        task = bar.add_task("Rebuilding", total=state["size"], completed=first, per_s=0)
        while state["generation"] == generation is not None:
            if state["failure"] and not state["is_running"]:
                return first, state["position"], state["failure"]
            per_s = (state["position"] - first) / (time.perf_counter() - began)
            bar.update(task, total=state["size"], completed=state["position"], per_s=per_s)
            await asyncio.sleep(LOOK_EVERY_S)
            state = await local.ask(session, "GET", path)
        bar.update(task, total=state["size"], completed=state["size"])
        while state["is_running"] and state["generation"] is None:  # deletes what was live before
            await asyncio.sleep(LOOK_EVERY_S)
            state = await local.ask(session, "GET", path)
    return first, state["size"], state["failure"]

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

POLL_EVERY_S = 0.2


class FinishedRebuild(NamedTuple):
    """Holds the outcome of a rebuild."""

    views: list[str]
    """The views that were built; empty if none had to be."""
    events: int
    """The events folded while this command watched."""
    seconds: float
    failure: str | None


@click.command()
@remote.project_option
@click.option("--view", help="Rebuild only this view; without it, all views.")
@click.option(
    "--ahead",
    is_flag=True,
    help="Prepare an upgrade, or the way back, on PostgreSQL: build the views that another version "
    "keeps in another form, next to the present ones, which stay in use afterwards too. A server "
    "of this version puts the new ones to use when it gets its first request.",
)
@json_option
@click.pass_obj
@click.pass_context
def rebuild(
    ctx: click.Context,
    database: config.DatabaseUrl,
    *,
    project: str,
    view: str | None,
    ahead: bool,
    json: bool,
) -> None:
    """Build the views of a project again from its log, while the present views stay in use.

    If the command is interrupted, the server that has the database open continues; without a
    server, run the command again. The exit code is 1 if the views can't be built from the log.
    """
    if ahead and view:
        raise click.UsageError("--ahead builds all views that need it: leave --view out.")
    if ahead and database.has_one_writer:
        raise click.UsageError("--ahead is for Postgres: no other version serves a file meanwhile.")
    finished = loop.run(_rebuild(database, project, {"view": view, "ahead": ahead or None}))
    if finished.failure:
        note(finished.failure)
        ctx.exit(FOUND_WRONG)
    _show(finished, json=json)


def _show(finished: FinishedRebuild, *, json: bool) -> None:
    views, events = finished.views, finished.events
    per_s = round(events / finished.seconds)
    if json:
        seconds = round(finished.seconds, 3)
        output.show_json(
            {"views": views, "events": events, "seconds": seconds, "events_per_s": per_s}
        )
    elif views:
        click.echo(f"{', '.join(views)}: {events} events, {per_s} per second")
    else:
        note("Nothing was built: all views have the form of this version.")


async def _rebuild(
    database: config.DatabaseUrl, project: str, wanted: dict[str, Any]
) -> FinishedRebuild:
    path = f"/local/projects/{project}/rebuild"
    async with local.service(database) as session:
        began = time.perf_counter()
        state = await local.ask(session, "POST", path, local.without_none(wanted))
        views = state["views"]
        first, last, failure = await _watch(session, path, state, ahead=bool(wanted["ahead"]))
    return FinishedRebuild(views, last - first, time.perf_counter() - began, failure)


async def _watch(
    session: ClientSession, path: str, state: dict[str, Any], *, ahead: bool
) -> tuple[int, int, str | None]:
    """Shows the progress until the new views are in use, or prepared if they are built `ahead`.
    Returns the first and last positions that were folded meanwhile, and the failure that ended the
    rebuild, if any."""
    began, first, generation = time.perf_counter(), state["position"] or 0, state["generation"]
    rate = TextColumn("{task.fields[per_s]:.0f}/s")
    with output.progress(MofNCompleteColumn(), TimeRemainingColumn(), rate) as bar:
        task = bar.add_task("Rebuilding", total=state["size"], completed=first, per_s=0)
        while state["generation"] == generation is not None:
            is_ended = state["failure"] or (ahead and state["is_prepared"])
            if is_ended and not state["is_running"]:
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

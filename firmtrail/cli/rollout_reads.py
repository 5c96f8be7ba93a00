"""`firmtrail rollout list`, `show`, `devices` and `watch`: show the progress of rollouts."""

import asyncio
import sys
from functools import partial
from typing import Any, get_args

import click
from aiohttp import ClientSession
from rich.progress import MofNCompleteColumn

from firmtrail.cli import local, loop, output, remote
from firmtrail.cli.output import Bars
from firmtrail.cli.rollouts import counts_of, plan_rows, rollout, state_of
from firmtrail.recording.commit import SYSTEM
from firmtrail.rules.progress import ProgressState

WATCH_EVERY_S = 2
ENDED = frozenset({"paused", "aborted", "withdrawn"})
STATE = click.Choice(get_args(ProgressState.__value__))
LISTED = ("id", "kind", "state", "model", "version", "bad_version", "percent", "started_at")


@rollout.command("list")
@remote.project_option
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, project: str, json: bool) -> None:
    """List the rollouts and rollbacks, the newest first; of one that waits for its window, say when
    that opens."""
    found = service.items(remote.path(project, "rollouts"))
    output.show_list(found if json else [_listed(each) for each in found], json=json)


def _listed(found: Any) -> dict[str, Any]:
    """Returns the members of a rollout that a table has."""
    row = {name: found[name] for name in LISTED}
    if opens_at := found.get("opens_at"):
        row["state"] = f"{row['state']}, window opens {opens_at}"
    return row


@rollout.command("show")
@click.argument("rollout_id", metavar="ID")
@remote.project_option
@remote.service_options
@output.json_option
def show(service: remote.Service, /, *, rollout_id: str, project: str, json: bool) -> None:
    """Show a rollout, its progress, and the phases of its plan."""
    path = remote.path(project, "rollouts", rollout_id)
    if json:
        output.show_json(service.ask("GET", path))
        return
    shown = service.run(partial(_with_people, path=path, project=project))
    phases, waits_for = shown.pop("phases", []), shown.pop("waits_for", ())
    shown["progress"] = counts_of(shown["progress"])
    output.show_members({name: each for name, each in shown.items() if each is not None})
    for line in waits_for:
        click.echo(line)
    if phases:
        click.echo()
        output.show_list(plan_rows(phases), json=False)


async def _with_people(session: ClientSession, *, path: str, project: str) -> Any:
    """Returns a rollout that names people by their e-mail addresses. A person who was erased keeps
    the id."""
    shown = await local.ask(session, "GET", path)
    if (approvals := shown["approvals"]) is None:
        return shown
    people = {
        actor_id: (await local.ask(session, "GET", remote.path(project, "actors", actor_id)))
        for actor_id in {*approvals["by"], approvals["started_by"]} - {None, SYSTEM}
    }
    emails = {actor_id: found["email"] or actor_id for actor_id, found in people.items()}
    by = [emails[actor_id] for actor_id in approvals["by"]]
    started_by = emails.get(approvals["started_by"], approvals["started_by"])
    return {**shown, "approvals": {**approvals, "by": by, "started_by": started_by}}


@rollout.command("devices")
@click.argument("rollout_id", metavar="ID")
@click.option("--state", type=STATE, help="Only devices in this state.")
@remote.project_option
@remote.service_options
@output.json_option
def devices(
    service: remote.Service, /, *, rollout_id: str, state: str | None, project: str, json: bool
) -> None:
    """List the devices that a rollout is for, each with its state."""
    path = remote.path(project, "rollouts", rollout_id, "devices")
    output.show_list(service.items(path, {"state": state}), json=json)


@rollout.command("watch")
@click.argument("rollout_id", metavar="ID")
@remote.project_option
@click.option("--once", is_flag=True, help="Print the present progress, and end.")
@remote.service_options
@output.json_option
def watch(
    service: remote.Service, /, *, rollout_id: str, project: str, once: bool, json: bool
) -> None:
    """Show a rollout's progress until every device has installed the version or the rollout stops.

    A terminal shows bars, and the last state at the end; a pipe gets a line at each change. Lines
    say what the rollout waits for: its start, approvals, the window that it has or inherits, the
    end of a halt, and the phase of its plan. A device that already ran the version counts as
    matching but not as installed, so the command does not end: press Ctrl-C. With --json, the
    present state is printed once.

    The exit code is 0 however the rollout stopped, also if it paused itself; 2 if it can't be
    watched, and 130 after Ctrl-C.
    """
    path = remote.path(project, "rollouts", rollout_id)
    if json:
        output.show_json(service.ask("GET", path))
        return
    watched = _Watched(are_bars_shown=sys.stdout.isatty() and sys.stderr.isatty())
    try:
        loop.run(_watch(service, path, watched, is_once=once))
    finally:
        watched.end()


class _Watched:
    """Holds the last lines about a rollout, and those that were printed last."""

    def __init__(self, *, are_bars_shown: bool) -> None:
        self._are_bars_shown = are_bars_shown
        self._last: list[str] = []
        self._printed: list[str] = []

    def see(self, bars: Bars, state: str, *waits: str) -> None:
        """Prints the lines that differ from the last ones. While bars are shown, the lines after
        the state stand below them, and nothing is printed."""
        self._last = [state, *waits]
        if self._are_bars_shown:
            bars.lines = self._last[1:]
        else:
            self.end()

    def end(self) -> None:
        """Prints each of the last lines, unless it was printed before."""
        for line in self._last:
            if line not in self._printed:
                click.echo(line)
        self._printed = self._last


async def _watch(service: remote.Service, path: str, watched: _Watched, *, is_once: bool) -> None:
    with output.progress(MofNCompleteColumn()) as bars:
        async with service.session() as session:
            while True:
                shown = await local.ask(session, "GET", path)
                watched.see(bars, state_of(shown), *shown.get("waits_for", ()))
                _show(bars, shown["progress"])
                if is_once or _is_over(shown):
                    bars.lines = ()  # the command prints them once more, as its result
                    return
                await asyncio.sleep(WATCH_EVERY_S)


def _is_over(shown: Any) -> bool:
    is_done: bool = shown["progress"]["installed"] >= shown["progress"]["matching"]
    return is_done or shown["state"] in ENDED


def _show(bars: Bars, counts: dict[str, int]) -> None:
    """Updates the bars; before the first counts, there are none."""
    failed = counts["failed"] + counts["exhausted"]
    done = {"offered so far": counts["offered"], "installed": counts["installed"], "failed": failed}
    if not bars.tasks:
        for name in done:
            bars.add_task(name)
    for task, completed in zip(bars.task_ids, done.values(), strict=True):
        bars.update(task, total=counts["matching"], completed=completed)
    bars.refresh()

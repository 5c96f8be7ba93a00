"""`firmtrail device list`, `show` and `history`: what devices run, should run, and ran."""

from typing import Any

import click
from aiohttp import ClientSession

from firmtrail.cli import local, output, remote
from firmtrail.cli.devices import device

LISTED = ("device", "version", "since", "status", "failing", "target", "last_seen_at", "model")
HISTORY = ("version", "since", "status", "change", "previous_version", "recorded_at", "late")

_as_of = click.option("--as-of", help="What was known then: a time, or @N for the first N events.")
_at = click.option("--at", help="What they ran at this time.")


@device.command("list")
@remote.in_project
@click.option("--version", help="Only those that run this version.")
@click.option("--model", help="Only those of this model.")
@click.option("--cohort", help="Only those of this cohort.")
@click.option("--tag", help="Only those with this tag.")
@click.option("--starts-with", "q", metavar="TEXT", help="Only those whose id begins so.")
@click.option("--outdated", is_flag=True, help="Only those with a lower version than the latest.")
@click.option("--failing", is_flag=True, help="Only those whose last report is failed or rejected.")
@click.option("--silent-for", metavar="SECONDS", help="Only those without a call for so long.")
@_as_of
@_at
@remote.named
@output.json_option
def list_(service: remote.Service, /, *, project: str, json: bool, **filters: Any) -> None:
    """List devices by id, with what each runs and should run."""
    found = service.items(remote.path(project, "devices"), filters)
    rows = found if json else [{name: each[name] for name in LISTED} for each in found]
    output.show_list(rows, json=json)


@device.command("show")
@click.argument("device_id", metavar="ID")
@remote.in_project
@remote.named
@output.json_option
def show(service: remote.Service, /, *, device_id: str, project: str, json: bool) -> None:
    """Show what a device is and runs, and which rule decides what it should run."""
    shown, explained = service.run(_explained(remote.path(project, "devices", device_id)))
    if json:
        output.show_json({**shown, "explanation": explained})
        return
    output.show_members(shown)
    if explained is not None:
        _show_rules(explained)


def _explained(path: str) -> remote.Work[tuple[Any, Any]]:
    """Read a device, and the rules that decide for it; none decides for a decommissioned one."""

    async def work(session: ClientSession) -> tuple[Any, Any]:
        shown = await local.ask(session, "GET", path)
        if shown["decommissioned"]:
            return shown, None
        return shown, await local.ask(session, "GET", f"{path}/explain")

    return work


def _show_rules(explained: Any) -> None:
    rules = [
        {"rule": each["rule"], "decides": each["decides"], "explanation": each["says"]}
        for each in explained["rules"]
    ]
    click.echo()
    output.show_table(rules, {"yes": "green"})


@device.command("history")
@click.argument("device_id", metavar="ID")
@remote.in_project
@click.option("--progress", is_flag=True, help="Add the reports on the way to a version.")
@_as_of
@_at
@remote.named
@output.json_option
def history(
    service: remote.Service, /, *, device_id: str, project: str, json: bool, **filters: Any
) -> None:
    """Show what a device ran, the newest first."""
    found = service.items(remote.path(project, "devices", device_id, "history"), filters)
    rows = found if json else [{name: each[name] for name in HISTORY} for each in found]
    output.show_list(rows, json=json)

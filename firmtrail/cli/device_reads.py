"""`firmtrail device list`, `show` and `history`: show what devices run, should run, and ran."""

from typing import Any

import click
from aiohttp import ClientSession

from firmtrail.cli import local, output, remote
from firmtrail.cli.devices import device

LISTED = ("device", "version", "since", "status", "failing", "target", "last_seen_at", "model")
OF_THE_PRESENT = frozenset({"target", "last_seen_at"})
"""Members that have no past: lists of the past leave their columns out."""
HISTORY = ("version", "since", "status", "change", "previous_version", "recorded_at", "late")

_at = click.option("--at", help="Show what devices ran at this time.")


@device.command("list")
@remote.project_option
@click.option("--version", help="Only devices that run this version.")
@click.option("--model", help="Only devices of this model.")
@click.option("--cohort", help="Only devices of this cohort.")
@click.option("--tag", help="Only devices with this tag.")
@click.option(
    "--attribute",
    multiple=True,
    metavar="KEY:VALUE",
    help="Only devices that say this of themselves; can be repeated.",
)
@click.option("--starts-with", "q", metavar="TEXT", help="Only devices whose id starts with TEXT.")
@click.option(
    "--outdated", is_flag=True, help="Only devices that run less than the latest release."
)
@click.option(
    "--failing", is_flag=True, help="Only devices whose last report says that an update failed."
)
@click.option(
    "--pending",
    is_flag=True,
    help="Only devices that wait to be accepted, or have a key that does.",
)
@click.option(
    "--silent-for",
    metavar="SECONDS",
    help="Only devices that made no call for this long since they were registered.",
)
@output.as_of_option
@_at
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, project: str, json: bool, **filters: Any) -> None:
    """List devices by id, with what each runs and should run."""
    found = service.items(remote.path(project, "devices"), filters)
    is_past = filters["as_of"] is not None or filters["at"] is not None
    names = [name for name in LISTED if not is_past or name not in OF_THE_PRESENT]
    rows = found if json else [{name: each[name] for name in names} for each in found]
    output.show_list(rows, json=json)


@device.command("show")
@click.argument("device_id", metavar="ID")
@remote.project_option
@remote.service_options
@output.json_option
def show(service: remote.Service, /, *, device_id: str, project: str, json: bool) -> None:
    """Show a device, and which rule decides the version that it should run."""
    shown, explained = service.run(_explained(remote.path(project, "devices", device_id)))
    if json:
        output.show_json({**shown, "explanation": explained})
        return
    output.show_members(shown)
    if explained is not None:
        _show_rules(explained)


def _explained(path: str) -> remote.InSession[tuple[Any, Any]]:
    """Reads a device and the rules that decide for it; a decommissioned device has no rules."""

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
    if explained["phase"] is not None:
        click.echo(f"\n{explained['phase']['says']}")


@device.command("history")
@click.argument("device_id", metavar="ID")
@remote.project_option
@click.option("--progress", is_flag=True, help="Include the reports during an installation.")
@output.as_of_option
@_at
@remote.service_options
@output.json_option
def history(
    service: remote.Service, /, *, device_id: str, project: str, json: bool, **filters: Any
) -> None:
    """Show which versions a device ran, the newest first."""
    found = service.items(remote.path(project, "devices", device_id, "history"), filters)
    rows = found if json else [{name: each[name] for name in HISTORY} for each in found]
    output.show_list(rows, json=json)

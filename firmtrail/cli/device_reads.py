"""`firmtrail device show` and `device history`: what a device runs, should run, and ran."""

from typing import Any

import click

from firmtrail import config
from firmtrail.cli import local, loop, output, remote
from firmtrail.cli.devices import device

SHOWN = ("version", "since", "change", "previous_version", "recorded_at", "late")


@device.command("show")
@click.argument("device_id", metavar="ID")
@remote.in_project
@remote.named
@output.json_option
@click.pass_obj
def show(
    database: config.Database,
    /,
    *,
    device_id: str,
    project: str,
    json: bool,
    **where: str | None,
) -> None:
    """Show what a device is and runs, and why it is told what it is told."""
    path = remote.path(project, "devices", device_id)
    shown, explained = loop.run(_get(database, where, path, f"{path}/explain"))
    if json:
        output.show_json({**shown, "explanation": explained})
        return
    output.show_table([{"": name, " ": value} for name, value in shown.items()], {})
    rules = [
        {"rule": each["rule"], "decides": each["decides"], "says": each["says"]}
        for each in explained["rules"]
    ]
    output.show_table(rules, {"True": "green"})


@device.command("history")
@click.argument("device_id", metavar="ID")
@remote.in_project
@remote.named
@output.json_option
@click.pass_obj
def history(
    database: config.Database,
    /,
    *,
    device_id: str,
    project: str,
    json: bool,
    **where: str | None,
) -> None:
    """Show what a device ran, the newest first; the newest 500 lines."""
    path = remote.path(project, "devices", device_id, "history")
    [page] = loop.run(_get(database, where, f"{path}?limit=500"))
    if json:
        output.show_json(page["items"])
    elif page["items"]:
        output.show_table([{name: line[name] for name in SHOWN} for line in page["items"]], {})


async def _get(database: config.Database, where: dict[str, str | None], *paths: str) -> list[Any]:
    async with remote.service(database, url=where["url"], token=where["token"]) as session:
        return [await local.ask(session, "GET", path) for path in paths]

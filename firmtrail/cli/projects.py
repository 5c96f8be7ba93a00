"""`firmtrail project`: adds, lists and shows projects, and changes their settings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from firmtrail import config
from firmtrail.cli import files, local, output, project_moves, reasons, remote
from firmtrail.cli.output import note


@click.group()
def project() -> None:
    """Add, list, show and move projects, and change their settings."""


project.add_command(project_moves.move)


@project.command("add")
@click.argument("name")
@click.pass_obj
def add(database: config.DatabaseUrl, name: str) -> None:
    """Create a project with an empty log."""
    local.post(database, "/api/v1/projects", {"project": name})
    note(f"Created project {name}.")


@project.command("list")
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, json: bool) -> None:
    """List the projects. With --url: the projects of the token's owner, with the role in each."""
    output.show_list(service.items("/api/v1/projects"), json=json)


@project.command("show")
@click.argument("name")
@remote.service_options
@output.json_option
def show(service: remote.Service, /, *, name: str, json: bool) -> None:
    """Show a project's settings, with names and values as `project change --set` takes them."""
    _show(service.ask("GET", remote.path(name)), json=json)


@project.command("change")
@click.argument("name")
@click.option(
    "--set",
    "settings",
    metavar="SETTING=VALUE",
    multiple=True,
    required=True,
    help="A setting and its new value; repeatable. The value is JSON, or a text; @FILE takes it "
    "from a file in JSON or YAML.",
)
@remote.service_options
@output.json_option
def change(service: remote.Service, /, *, name: str, settings: Sequence[str], json: bool) -> None:
    """Change settings of a project, all of them or none, and show them all."""
    reasons.name_option_of_members("--set")
    body = dict(_setting(each) for each in settings)
    _show(service.ask("PATCH", remote.path(name), body), json=json)


def _show(shown: Any, *, json: bool) -> None:
    if json:
        output.show_json(shown)
    else:
        output.show_settings(shown)


def _setting(text: str) -> tuple[str, Any]:
    """Returns the name and the value that `SETTING=VALUE` says."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"--set {text} is not SETTING=VALUE, such as --set approvals=2.")
    if value.startswith("@"):
        return name, files.structure(_existing(value.removeprefix("@")))
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


def _existing(name: str) -> Path:
    path: Path = files.existing.convert(name, None, click.get_current_context())
    return path

"""`firmtrail project`: adds, lists and shows projects."""

import click

from firmtrail import config
from firmtrail.cli import local, output, remote
from firmtrail.cli.output import note


@click.group()
def project() -> None:
    """Add, list and show projects."""


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
    """Show a project's settings."""
    output.show(service.ask("GET", remote.path(name)), json=json)

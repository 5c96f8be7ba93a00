"""`firmtrail user`: the members of projects, their roles, and the erasure of a person."""

from typing import Any

import click

from firmtrail import config
from firmtrail.access.roles import ROLES
from firmtrail.cli import given, local, output, remote
from firmtrail.cli.output import note
from firmtrail.exits import CouldNotRun

LOCAL = "/local"


@click.group()
def user() -> None:
    """Add, list and remove members, set passwords, erase people."""


@user.command("add")
@click.argument("email")
@remote.in_project
@click.option("--role", required=True, type=click.Choice(ROLES))
@click.option("--password-stdin", is_flag=True, help="Set the password to standard input's line.")
@click.pass_obj
def add(
    database: config.Database, *, email: str, project: str, role: str, password_stdin: bool
) -> None:
    """Make a person a member of a project, or give a member another role.

    A password replaces the one that the person had, and ends the logins made with it.
    """
    body: dict[str, Any] = {"email": email, "role": role}
    if password_stdin:
        body["password"] = given.line_of_stdin("--password-stdin")
    local.post(database, f"{LOCAL}/projects/{project}/users", body)
    note(f"{email} is {role} in {project}.")


@user.command("list")
@remote.in_project
@remote.named
@output.json_option
def list_(service: remote.Service, /, *, project: str, json: bool) -> None:
    """List the members of a project and their roles."""
    output.show_list(service.items(remote.path(project, "members")), json=json)


@user.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
@remote.in_project
@remote.named
def role_(service: remote.Service, /, *, email: str, role: str, project: str) -> None:
    """Give a person this role in a project; a person who is no member becomes one."""
    service.ask("POST", remote.path(project, "members"), {"email": email, "role": role})
    note(f"{email} is {role} in {project}.")


@user.command("remove")
@click.argument("email")
@remote.in_project
@remote.named
def remove(service: remote.Service, /, *, email: str, project: str) -> None:
    """End a membership, and the tokens that the member has for the project.

    EMAIL may also be the actor id that `user list` shows.
    """
    members = service.items(remote.path(project, "members"))
    wanted = {email, email.lower()}
    found = [each["actor_id"] for each in members if wanted & {each["actor_id"], each["email"]}]
    if not found:
        raise CouldNotRun(
            f"{email} is no member of {project}: `firmtrail user list` lists the members."
        )
    service.ask("DELETE", remote.path(project, "members", found[0]))
    note(f"{email} is no longer a member of {project}.")


@user.command("erase")
@click.argument("email")
@click.pass_obj
def erase(database: config.Database, email: str) -> None:
    """Erase a person: address, password, memberships and tokens. The logs keep an id."""
    local.post(database, f"{LOCAL}/erasures", {"email": email})
    note(f"{email} is erased.")

"""`firmtrail user`: manages the members of projects and their roles, and erases people."""

from typing import Any

import click

from firmtrail import config
from firmtrail.access.roles import ROLES
from firmtrail.cli import credentials, local, output, remote
from firmtrail.cli.output import note
from firmtrail.exits import CouldNotRun

LOCAL = "/local"


@click.group()
def user() -> None:
    """Add, list and remove members, set passwords, erase people."""


@user.command("add")
@click.argument("email")
@remote.project_option
@click.option("--role", required=True, type=click.Choice(ROLES))
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from a line of standard input."
)
@click.pass_obj
def add(
    database: config.DatabaseUrl, *, email: str, project: str, role: str, password_stdin: bool
) -> None:
    """Make a person a member of a project, or give a member another role.

    A password replaces the person's present one, and ends the logins made with it.
    """
    body: dict[str, Any] = {"email": email, "role": role}
    if password_stdin:
        body["password"] = credentials.line_of_stdin("--password-stdin")
    local.post(database, f"{LOCAL}/projects/{project}/users", body)
    note(f"{email} is {role} in {project}.")


@user.command("list")
@remote.project_option
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, project: str, json: bool) -> None:
    """List the members of a project and their roles."""
    output.show_list(service.items(remote.path(project, "members")), json=json)


@user.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice(ROLES))
@remote.project_option
@remote.service_options
def role_(service: remote.Service, /, *, email: str, role: str, project: str) -> None:
    """Give a person this role in a project; a person who is not a member becomes one."""
    service.ask("POST", remote.path(project, "members"), {"email": email, "role": role})
    note(f"{email} is {role} in {project}.")


@user.command("remove")
@click.argument("email")
@remote.project_option
@remote.service_options
def remove(service: remote.Service, /, *, email: str, project: str) -> None:
    """Remove a member from a project, and revoke the member's tokens for it.

    EMAIL may also be the actor id that `user list` shows.
    """
    members = service.items(remote.path(project, "members"))
    wanted = {email, email.lower()}
    found = [each["actor_id"] for each in members if wanted & {each["actor_id"], each["email"]}]
    if not found:
        raise CouldNotRun(
            f"{email} is not a member of {project}: `firmtrail user list` lists the members."
        )
    service.ask("DELETE", remote.path(project, "members", found[0]))
    note(f"{email} is no longer a member of {project}.")


@user.command("erase")
@click.argument("email")
@click.pass_obj
def erase(database: config.DatabaseUrl, email: str) -> None:
    """Erase a person: address, password, memberships and tokens. The logs keep only an id."""
    local.post(database, f"{LOCAL}/erasures", {"email": email})
    note(f"{email} is erased.")

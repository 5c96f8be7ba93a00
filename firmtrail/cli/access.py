"""`firmtrail project | user | token`: what it takes to let the first people and programs in."""

import sys
from typing import Any

import click

from firmtrail import config
from firmtrail.access.roles import ROLES
from firmtrail.cli import local, loop, remote
from firmtrail.cli.output import note

LOCAL = "/local"


@click.group()
def project() -> None:
    """Add projects."""


@project.command("add")
@click.argument("name")
@click.pass_obj
def add_project(database: config.Database, name: str) -> None:
    """Create a project with an empty log."""
    _post(database, "/api/v1/projects", {"project": name})
    note(f"Project {name} is there.")


@click.group()
def user() -> None:
    """Add members, set passwords, erase people."""


@user.command("add")
@click.argument("email")
@remote.in_project
@click.option("--role", required=True, type=click.Choice(ROLES))
@click.option("--password-stdin", is_flag=True, help="Set the password to standard input's line.")
@click.pass_obj
def add_user(
    database: config.Database, *, email: str, project: str, role: str, password_stdin: bool
) -> None:
    """Make a person a member of a project, or give a member another role.

    A password replaces the one that the person had, and ends the logins made with it.
    """
    body: dict[str, Any] = {"email": email, "role": role}
    if password_stdin:
        body["password"] = _password()
    _post(database, f"{LOCAL}/projects/{project}/users", body)
    note(f"{email} is {role} in {project}.")


def _password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("--password-stdin: standard input is empty.")
    return password


@user.command("erase")
@click.argument("email")
@click.pass_obj
def erase_user(database: config.Database, email: str) -> None:
    """Erase a person: address, password, memberships and tokens. The logs keep an id."""
    _post(database, f"{LOCAL}/erasures", {"email": email})
    note(f"{email} is erased.")


@click.group()
def token() -> None:
    """Create API tokens."""


@token.command("create")
@click.argument("email")
@remote.in_project
@click.option("--role", type=click.Choice(ROLES), help="At most the member's own, the default.")
@click.option("--name", default="", help="What it is for.")
@click.pass_obj
def create_token(
    database: config.Database, *, email: str, project: str, role: str | None, name: str
) -> None:
    """Create an API token for a member, and print it alone. It is shown this once."""
    body = {"email": email, "role": role, "name": name}
    issued = _post(database, f"{LOCAL}/projects/{project}/tokens", body)
    click.echo(issued["token"])


def _post(database: config.Database, path: str, body: dict[str, Any]) -> Any:
    async def post() -> Any:
        async with local.service(database) as session:
            return await local.ask(session, "POST", path, body)

    return loop.run(post())

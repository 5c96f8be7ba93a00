"""`firmtrail token`, `login` and `logout`: manage the credentials of people and programs."""

from typing import Any
from urllib.parse import quote

import click

from firmtrail import config
from firmtrail.access.roles import ROLES
from firmtrail.cli import local, output, remote
from firmtrail.cli.numbers import Whole
from firmtrail.cli.output import note

LOGINS = "/api/v1/logins"


@click.group()
def token() -> None:
    """Create, list and revoke API tokens."""


@token.command("create")
@click.argument("email")
@remote.project_option
@click.option(
    "--role",
    type=click.Choice(ROLES),
    help="The token's role, not higher than the member's. Without it, the member's role.",
)
@click.option("--name", default="", help="The token's purpose.")
@click.option("--expires-at", help="When the token expires, such as 2027-01-31T00:00:00Z.")
@click.option(
    "--registers",
    is_flag=True,
    help="Register the unknown devices that the token names. Needs --role gateway.",
)
@click.option("--model", help="With --registers: the model of these devices.")
@click.option(
    "--registers-max",
    type=Whole(1, 1_000_000),
    help="With --registers: how many devices it registers at most. Without it, 10 000.",
)
@output.json_option
@click.pass_obj
def create(
    database: config.DatabaseUrl,
    /,
    *,
    email: str,
    project: str,
    role: str | None,
    json: bool,
    **terms: Any,
) -> None:
    """Create an API token for a member, and print only the token. It is never shown again."""
    body = {"email": email, "role": role, **terms}
    issued = local.post(database, f"/local/projects/{project}/tokens", body)
    output.show_secret(issued, "token", json=json)


@token.command("list")
@click.option(
    "--project", help="List all tokens of this project. Without it, those of --token's owner."
)
@remote.service_options
@output.json_option
def list_(service: remote.Service, /, *, project: str | None, json: bool) -> None:
    """List API tokens: all of a project, for its admins, or those of --token's owner."""
    output.show_list(service.items(_tokens(service, project)), json=json)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@click.option(
    "--project", help="Revoke any token of this project. Without it, one of --token's owner."
)
@remote.service_options
def revoke(service: remote.Service, /, *, token_id: str, project: str | None) -> None:
    """Revoke a token, by the id that `token list` shows. It is refused from then on."""
    service.ask("DELETE", f"{_tokens(service, project)}/{quote(token_id, safe='')}")
    note(f"Token {token_id} is revoked.")


@click.group()
def login() -> None:
    """List and end logins: tokens that were issued for a password."""


@login.command("list")
@click.option(
    "--project", help="List the logins of this project's members. Without it, --token's owner's."
)
@remote.service_options
@output.json_option
def list_logins(service: remote.Service, /, *, project: str | None, json: bool) -> None:
    """List logins: of a project's members, for its admins, or those of --token's owner."""
    if project is None:
        _check_url(service)
        found = service.items(LOGINS)
    else:
        tokens = service.items(remote.path(project, "tokens"))
        found = [each for each in tokens if each["kind"] == "login"]
    output.show_list(found, json=json)


@login.command("end")
@click.argument("login_id", metavar="ID")
@click.option(
    "--project",
    help="End a login of any member of this project. Without it, one of --token's owner.",
)
@remote.service_options
def end(service: remote.Service, /, *, login_id: str, project: str | None) -> None:
    """End a login, by the id that `login list` shows. Its token is refused from then on."""
    if project is None:
        _check_url(service)
        path = f"{LOGINS}/{quote(login_id, safe='')}"
    else:
        path = remote.path(project, "tokens", login_id)
    service.ask("DELETE", path)
    note(f"Login {login_id} was ended.")


@click.command()
@remote.service_options
def logout(service: remote.Service, /) -> None:
    """End the login whose token is given with --url."""
    _check_url(service)
    service.ask("POST", "/api/v1/logout")
    note("The login was ended.")


def _tokens(service: remote.Service, project: str | None) -> str:
    if project is not None:
        return remote.path(project, "tokens")
    _check_url(service)
    return "/api/v1/tokens"


def _check_url(service: remote.Service) -> None:
    """Refuses a command on the caller's own credentials over the socket, which uses none."""
    if service.url is None:
        raise click.UsageError("Say whose tokens or logins: give --project, or --url with a token.")

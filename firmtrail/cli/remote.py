"""Where does a command on the fleet go? Over HTTP to the server that --url names, as its --token
may; without --url to the database's own service, as cli/local.py finds it.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote, urlsplit

import click
from aiohttp import ClientError, ClientSession, ClientTimeout, InvalidURL

from firmtrail import config
from firmtrail.cli import local
from firmtrail.main import CouldNotRun

in_project = click.option("--project", required=True, help="The project's name.")

_URL = click.option(
    "--url",
    envvar="FIRMTRAIL_URL",
    help="A server: http://127.0.0.1:8080. Without it, the one of --database.",
)
_TOKEN = click.option("--token", envvar="FIRMTRAIL_TOKEN", help="An API token, with --url.")


def named[Command: Callable[..., Any]](command: Command) -> Command:
    """The options that say which service is meant; `service` takes them."""
    return _URL(_TOKEN(command))


def path(project: str, *names: str) -> str:
    """The path of something in a project."""
    return "/".join(("/api/v1/projects", *(quote(name, safe="") for name in (project, *names))))


@contextlib.asynccontextmanager
async def service(
    database: config.Database,
    *,
    url: str | None,
    token: str | None,
    artifacts: config.ArtifactPlace | None = None,
) -> AsyncIterator[ClientSession]:
    """A session with the service. `artifacts` is where they lie if this very process serves."""
    if url is None:
        async with local.service(database, artifacts) as session:
            yield session
        return
    if token is None:
        raise click.UsageError("--url needs a --token.")
    if urlsplit(url).scheme not in {"http", "https"} or urlsplit(url).path not in {"", "/"}:
        raise click.UsageError("--url is http://HOST:PORT or https://HOST:PORT, without a path.")
    timeout = ClientTimeout(total=local.TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with ClientSession(url, headers=headers, timeout=timeout) as session:
            yield session
    except (ClientError, InvalidURL, TimeoutError) as error:
        raise CouldNotRun(f"The server of --url: {error or type(error).__name__}") from error

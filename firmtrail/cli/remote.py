"""Connects a command on the fleet to its service.

With --url that is a server, over HTTP, with the rights of the token. Without --url it is the
service of the database, as cli/local.py finds it.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout, InvalidURL

from firmtrail import config
from firmtrail.cli import credentials, local, loop, reasons
from firmtrail.exits import CouldNotRun

project_option = click.option("--project", required=True, help="The project's name.")

_URL = click.option(
    "--url",
    envvar="FIRMTRAIL_URL",
    help="A server, such as http://127.0.0.1:8080. Without it, the service of --database.",
)


type InSession[T] = Callable[[ClientSession], Coroutine[Any, Any, T]]
"""Work that needs a session."""


@dataclass(frozen=True, slots=True)
class Service:
    """Names the service that a command calls."""

    database: config.DatabaseUrl
    url: str | None
    token: str | None

    @contextlib.asynccontextmanager
    async def session(
        self, artifacts: config.StorageLocation | None = None
    ) -> AsyncIterator[ClientSession]:
        """Opens a session. `artifacts` is where artifacts are stored if this process serves."""
        if self.url is None:
            async with local.service(self.database, artifacts) as session:
                yield session
        else:
            async with _connected(self.url, self.token) as session:
                yield session

    def run[T](self, work: InSession[T]) -> T:
        """Does the work in one session, and returns its result."""

        async def in_session() -> T:
            async with self.session() as session:
                return await work(session)

        return loop.run(in_session())

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Returns the answer's JSON. Raises `CouldNotRun` with the reason of a refusal."""
        return self.run(lambda session: local.ask(session, method, path, body))

    def items(self, path: str, query: Mapping[str, Any] | None = None) -> list[Any]:
        """Returns all items of a list; members of `query` that are None or false are left out."""
        return self.run(lambda session: items_of(session, path, query or {}))


def service_options[Command: Callable[..., Any]](command: Command) -> Command:
    """Adds --url, --token and --token-file; the command gets a `Service` as its first argument."""

    @functools.wraps(command)
    def wrapped(*, url: str | None, token: str | None, **rest: Any) -> Any:
        return command(Service(click.get_current_context().obj, url, token), **rest)

    with_token = credentials.token_options(
        wrapped, envvar="FIRMTRAIL_TOKEN", help="An API token, for --url."
    )
    return _URL(with_token)  # type: ignore[return-value] # click calls it


def path(project: str, *names: str) -> str:
    """Returns the URL path of something in a project."""
    return "/".join(("/api/v1/projects", *(quote(name, safe="") for name in (project, *names))))


async def items_of(session: ClientSession, path: str, query: Mapping[str, Any]) -> list[Any]:
    params = [
        (name, "true" if value is True else str(value))
        for name, given in query.items()
        for value in (given if isinstance(given, tuple) else (given,))
        if value is not None and value is not False
    ]
    headers = {"Accept": "application/x-ndjson"}
    async with session.get(path, params=params, headers=headers) as response:
        if not response.ok:
            raise CouldNotRun(await reasons.of_response(response))
        return [msgspec.json.decode(line) for line in (await response.read()).splitlines()]


@contextlib.asynccontextmanager
async def _connected(url: str, token: str | None) -> AsyncIterator[ClientSession]:
    if token is None:
        raise click.UsageError(
            "--url needs a token: --token-file, or the variable FIRMTRAIL_TOKEN."
        )
    if urlsplit(url).scheme not in {"http", "https"} or urlsplit(url).path not in {"", "/"}:
        raise click.UsageError(
            "--url must be a server's address without a path: http://HOST:PORT or https://HOST:PORT."
        )
    timeout = ClientTimeout(total=local.TIMEOUT_S)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with ClientSession(
            url, headers=headers, timeout=timeout, middlewares=(reasons.refuse_moved,)
        ) as session:
            yield session
    except (ClientError, InvalidURL, TimeoutError) as error:
        raise CouldNotRun(reasons.of_connection(url, error)) from error

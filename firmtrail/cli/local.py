"""How do writing commands reach the service? As HTTP clients over a unix socket, in every case.

While a server holds an embedded file, over the socket beside it; else over one in a private
temporary folder, on which this process serves the same application for the time of the command.
So a command does what the same request would, and leaves the same events.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import ClientResponse, ClientSession, ClientTimeout, UnixConnector, web

from firmtrail import config
from firmtrail.cli import logs, parts, sockets
from firmtrail.eventstore import migrations
from firmtrail.eventstore.database import Database
from firmtrail.eventstore.held_file import Locked
from firmtrail.main import CouldNotRun

BASE_URL = "http://localhost"
TIMEOUT_S = 300
"""For one request: a thousand weak secrets take a minute to hash."""
CONNECT_TRIES = 50
CONNECT_EVERY_S = 0.1


@contextlib.asynccontextmanager
async def service(
    database: config.Database, artifacts: config.ArtifactPlace | None = None
) -> AsyncIterator[ClientSession]:
    """A session whose requests the service takes from `system`.

    `artifacts` is where they lie if this very process serves.
    """
    logs.to_stderr()
    async with contextlib.AsyncExitStack() as stack:
        socket = await _socket(stack, database, artifacts)
        timeout = ClientTimeout(total=TIMEOUT_S)
        yield await stack.enter_async_context(
            ClientSession(BASE_URL, connector=UnixConnector(str(socket)), timeout=timeout)
        )


async def _socket(
    stack: contextlib.AsyncExitStack,
    database: config.Database,
    artifacts: config.ArtifactPlace | None,
) -> Path:
    """A file can be held before the socket is there, while a server starts or migrates."""
    if isinstance(database, config.Embedded) and not database.path.exists():
        raise CouldNotRun(
            f"There is no {database.path}: `firmtrail serve` or `firmtrail migrate` creates it."
        )
    for _ in range(CONNECT_TRIES):
        try:
            db = await stack.enter_async_context(parts.opened(database))
        except Locked:
            assert isinstance(database, config.Embedded)
            if await _answers(database.socket):
                return database.socket
            await asyncio.sleep(CONNECT_EVERY_S)
        else:
            return await stack.enter_async_context(_serving(db, database, artifacts))
    raise CouldNotRun(f"{database} is held by a process that takes no commands.")


async def _answers(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def _serving(
    db: Database, database: config.Database, artifacts: config.ArtifactPlace | None
) -> AsyncIterator[Path]:
    """The service in this very process, until the command has its answers."""
    if not await migrations.is_usable(db):
        raise CouldNotRun(f"{database} needs `firmtrail migrate` of this version first.")
    instance = await migrations.instance(db)
    serving = config.Serving(database=database, instance=instance, artifacts=artifacts)
    with tempfile.TemporaryDirectory(prefix="firmtrail-") as folder:
        path = Path(folder, "sock")
        async with parts.working(db, serving, str(path)) as services:
            runner = parts.runner(services)
            await runner.setup()
            with sockets.private_socket(path) as bound:
                await web.SockSite(runner, bound).start()
                try:
                    yield path
                finally:
                    await runner.cleanup()


async def ask(session: ClientSession, method: str, path: str, body: Any = None) -> Any:
    """The answer's JSON, None where it has none. Raises `CouldNotRun` with a refusal's reason."""
    async with session.request(method, path, json=body) as response:
        if not response.ok:
            raise CouldNotRun(await reason(response))
        return await response.json() if response.status != 204 else None


async def reason(response: ClientResponse) -> str:
    """What a problem says, with every fault that it names; of what is none, its status."""
    if response.content_type != "application/problem+json":
        return f"{response.url} answers {response.status} {response.reason}"
    problem = await response.json(content_type=None)
    faults = [f"{each.get('pointer', '')}: {each['reason']}" for each in problem["errors"]]
    return "\n  ".join([problem["detail"] or problem["title"], *faults])

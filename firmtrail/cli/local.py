"""Commands reach the service as HTTP clients over a unix socket, in every case.

While a server has an embedded file open, the socket is the one next to the file. Otherwise it is in
a private temporary folder, and this process serves the same application on it until the command
ends. So a command does what the same request would do, and leaves the same events.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, UnixConnector, web

from firmtrail import config
from firmtrail.cli import logs, loop, parts, reasons, sockets
from firmtrail.database import files
from firmtrail.database.database import Database
from firmtrail.database.file_lock import Locked
from firmtrail.exits import CouldNotRun
from firmtrail.schema import migrations

BASE_URL = "http://localhost"
TIMEOUT_S = 300
"""For one request: a thousand weak secrets take a minute to hash."""
CONNECT_TRIES = 50
CONNECT_EVERY_S = 0.1


@contextlib.asynccontextmanager
async def service(
    database: config.Database, artifacts: config.Place | None = None
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
    artifacts: config.Place | None,
) -> Path:
    """A file can be held before the socket is there, while a server starts or migrates."""
    if isinstance(database, config.Embedded) and not database.path.exists():
        raise CouldNotRun(
            f"There is no database {database.path.absolute()}: name another with --database, or "
            "create this one with `firmtrail serve` or `firmtrail migrate`."
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
    raise CouldNotRun(
        f"{database} is open in another process, which takes no commands: if it is a server that "
        "is starting, try again, else stop it."
    )


async def _answers(socket: Path) -> bool:
    """Raises `files.NotOurs` where somebody else would get the command, and the secrets in it."""
    files.check_not_link(socket)
    files.check_trusted(socket)
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    return True


@contextlib.asynccontextmanager
async def _serving(
    db: Database, database: config.Database, artifacts: config.Place | None
) -> AsyncIterator[Path]:
    """The service in this very process, until the command has its answers."""
    if not await migrations.is_usable(db):
        raise CouldNotRun(
            f"{database} does not have the schema of this version: run `firmtrail migrate` first."
        )
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


def post(database: config.Database, path: str, body: Mapping[str, Any]) -> Any:
    """Return what the database's own service answers to a POST; None in `body` means no member."""

    async def work() -> Any:
        async with service(database) as session:
            given = {name: value for name, value in body.items() if value is not None}
            return await ask(session, "POST", path, given)

    return loop.run(work())


async def ask(session: ClientSession, method: str, path: str, body: Any = None) -> Any:
    """The answer's JSON, None where it has none. Raises `CouldNotRun` with a refusal's reason."""
    async with session.request(method, path, json=body) as response:
        if not response.ok:
            raise CouldNotRun(await reasons.of_response(response))
        return await response.json() if response.status != 204 else None

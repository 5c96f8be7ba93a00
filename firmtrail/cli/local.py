"""Connects commands to the service of a database, always as HTTP clients over a unix socket.

While a server has an embedded file open, the socket is the one next to the file. Otherwise it is in
a private temporary folder, and this process serves the same application on it until the command
ends. So a command does what the same request would do, and records the same events.
"""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, UnixConnector, web

from firmtrail import config
from firmtrail.cli import assembly, logs, loop, reasons, sockets
from firmtrail.cli.back_ends import back_end
from firmtrail.database import files
from firmtrail.database.database import Database
from firmtrail.database.file_lock import Locked
from firmtrail.exits import CouldNotRun
from firmtrail.schema import migrations

BASE_URL = "http://localhost"
TIMEOUT_S = 300
"""The limit for one request: a thousand weak secrets take a minute to hash."""
CONNECT_TRIES = 50
CONNECT_EVERY_S = 0.1


@contextlib.asynccontextmanager
async def service(
    database: config.DatabaseUrl, artifacts: config.StorageLocation | None = None
) -> AsyncIterator[ClientSession]:
    """Opens a session whose requests the service accepts as the actor `system`.

    `artifacts` is where artifacts are stored if this process itself serves.
    """
    logs.configure(sys.stderr, "warning")
    async with contextlib.AsyncExitStack() as stack:
        socket = await _socket(stack, database, artifacts)
        timeout = ClientTimeout(total=TIMEOUT_S)
        yield await stack.enter_async_context(
            ClientSession(
                BASE_URL,
                connector=UnixConnector(str(socket)),
                timeout=timeout,
                middlewares=(reasons.refuse_moved,),
            )
        )


async def _socket(
    stack: contextlib.AsyncExitStack,
    database: config.DatabaseUrl,
    artifacts: config.StorageLocation | None,
) -> Path:
    """Returns the socket of the service, and tries several times: while a server starts or
    migrates, it has locked the file and has no socket yet."""
    chosen = back_end(database)
    if missing := chosen.missing_file():
        raise CouldNotRun(
            f"The database {missing} does not exist: name another one with --database, or create "
            "it with `firmtrail serve` or `firmtrail migrate`."
        )
    for _ in range(CONNECT_TRIES):
        try:
            db = await stack.enter_async_context(chosen.opened())
        except Locked:
            assert database.socket is not None
            if await _answers(database.socket):
                return database.socket
            await asyncio.sleep(CONNECT_EVERY_S)
        else:
            return await stack.enter_async_context(_serving(db, database, artifacts))
    raise CouldNotRun(
        f"{database} is open in another process, which accepts no commands: if it is a server that "
        "is starting, try again; otherwise stop it."
    )


async def _answers(socket: Path) -> bool:
    """Returns whether a server listens. Raises `files.NotOurs` if another user would get the
    command and the secrets in it."""
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
    db: Database, database: config.DatabaseUrl, artifacts: config.StorageLocation | None
) -> AsyncIterator[Path]:
    """Serves in this process on a socket of its own, until the command has its answers."""
    await assembly.check_schema(db, database)
    await assembly.check_role(db, database)
    instance = await migrations.instance(db)
    serving = config.Serving(
        database=database, instance=instance, artifacts=artifacts, continues_rebuilds=False
    )
    with tempfile.TemporaryDirectory(prefix="firmtrail-") as folder:
        path = Path(folder, "sock")
        async with assembly.services(db, serving, str(path)) as services:
            runner = assembly.runner(services)
            await runner.setup()
            with sockets.private_socket(path) as bound:
                await web.SockSite(runner, bound).start()
                try:
                    yield path
                finally:
                    await runner.cleanup()


def post(database: config.DatabaseUrl, path: str, body: Mapping[str, Any]) -> Any:
    """Sends a POST to the database's service, without the members of `body` that are None, and
    returns the answer's JSON."""

    async def work() -> Any:
        async with service(database) as session:
            return await ask(session, "POST", path, without_none(body))

    return loop.run(work())


def without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


async def ask(session: ClientSession, method: str, path: str, body: Any = None) -> Any:
    """Sends a request and returns the answer's JSON, None if it has no body. Raises `CouldNotRun`
    with the reason of a refusal."""
    async with session.request(method, path, json=body) as response:
        if not response.ok:
            raise CouldNotRun(await reasons.of_response(response))
        return await response.json() if response.status != 204 else None

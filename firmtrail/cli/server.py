"""One process that serves, from its start to exit code 0.

An embedded database is served twice: over TCP, and to commands of the file's owner over a unix
socket beside it. SIGTERM and SIGINT stop accepting, let what was accepted end, record what is
queued, and end the process. Whoever waits for it to be ready waits for the line "serving".
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from firmtrail import config
from firmtrail.cli import logs, loop, parts, sockets
from firmtrail.eventstore import held_file, migrations, sqlite
from firmtrail.eventstore.database import Database
from firmtrail.http.call import Services
from firmtrail.main import CouldNotRun

SCRIPTS = ("firmtrail.offering", "firmtrail.recording")
"""What is played at every moment, and imported before it is waited for."""

_log = structlog.get_logger("firmtrail")


def serve(serving: config.Serving) -> None:
    """Serve until a signal says to stop."""
    logs.to_stdout()
    loop.tune_for_serving()
    try:
        loop.run(_serve(serving))
    except held_file.Locked as error:
        raise CouldNotRun(f"{error}: a file is served by one process.") from error


async def _serve(serving: config.Serving) -> None:
    stopping = _stop_signal()
    async with parts.opened(serving.database, apart=SCRIPTS) as db:
        await _prepare(db, serving)
        local_socket = _local_socket(serving)
        async with parts.working(db, serving, local_socket) as services:
            if serving.is_demo:
                await parts.ensure_demo(services)
            async with _listening(serving, services):
                await stopping.wait()
                _log.info("stopping")
                services.readiness.is_draining = True
    _log.info("stopped")


def _stop_signal() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _local_socket(serving: config.Serving) -> str | None:
    database = serving.database
    return str(database.socket) if isinstance(database, config.Embedded) else None


async def _prepare(db: Database, serving: config.Serving) -> None:
    """An embedded database is migrated here and now: this process holds it, nobody else writes.

    Its connections are idle meanwhile, so the migration's is the only one that writes.
    """
    if isinstance(serving.database, config.Embedded):
        _warn_of_wal_reset_bug()
        if not await migrations.is_usable(db):
            from firmtrail.eventstore import migrate  # noqa: PLC0415 (a second, mostly not needed)

            await migrate.migrate(serving.database.url, serving.instance)
    await parts.check(db, serving)
    parts.ensure_key(serving)


def _warn_of_wal_reset_bug() -> None:
    if sqlite.has_wal_reset_bug(sqlite.VERSION):
        _log.warning(
            "this SQLite can lose a commit when a second process writes or checkpoints the file: "
            "let only this one do so",
            sqlite=".".join(map(str, sqlite.VERSION)),
            fixed_in="3.51.3, 3.50.7, 3.44.6",
        )


@contextlib.asynccontextmanager
async def _listening(serving: config.Serving, services: Services) -> AsyncIterator[None]:
    """Accepts until the end, then lets the requests that it accepted finish."""
    runner = parts.runner(services)
    await runner.setup()
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(serving.database, config.Embedded):
                bound = stack.enter_context(sockets.private_socket(serving.database.socket))
                await web.SockSite(runner, bound).start()
            await _tcp_site(runner, serving).start()
            host, port = runner.addresses[-1][:2]
            where = sockets.url(host, port, is_tls=serving.tls is not None)
            _log.info("serving", url=where, database=str(serving.database))
            yield
    finally:
        await runner.cleanup()


def _tcp_site(runner: web.AppRunner, serving: config.Serving) -> web.TCPSite:
    tls = sockets.tls_context(serving.tls) if serving.tls else None
    return web.TCPSite(runner, serving.host, serving.port, ssl_context=tls, backlog=1024)

"""One process that serves, from its start to exit code 0.

An embedded database is served twice: over TCP, and to commands of the file's owner over a unix
socket next to it. SIGTERM and SIGINT stop accepting, let what was accepted end, record what is
queued, and end the process; SIGQUIT waits for no request. The line "serving" says that it is ready.
"""

import contextlib
import os
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from firmtrail import config
from firmtrail.cli import logs, loop, parts, signals, sockets
from firmtrail.database import held_file
from firmtrail.database.database import Database
from firmtrail.exits import CouldNotRun
from firmtrail.http import descriptors
from firmtrail.http.call import Services
from firmtrail.http.connection import HttpRunner
from firmtrail.schema import migrations

SCRIPTS = ("firmtrail.recording.check_ins", "firmtrail.recording.reports")
"""What is played at every moment, and imported before it is waited for."""

UMASK = 0o077
"""Only its own user can use the files that a server creates, whatever it was started with."""

_log = structlog.get_logger("firmtrail")


def serve(serving: config.Serving) -> None:
    """Serve until a signal says to stop."""
    logs.to_stdout()
    descriptors.raise_limit()
    os.umask(UMASK)
    loop.tune_for_serving()
    try:
        loop.run(_serve(serving))
    except held_file.Locked as error:
        raise CouldNotRun(
            f"{error}, and only one process may serve a file: stop that one, or name another "
            "database with --database."
        ) from error


async def _serve(serving: config.Serving) -> None:
    certificates = sockets.Certificates(serving.tls) if serving.tls else None
    reload = certificates.reload_or_log if certificates else signals.nothing_to_reload
    orders = signals.orders(reload)
    async with parts.opened(serving.database, apart=SCRIPTS) as db:
        await _prepare(db, serving)
        local_socket = _local_socket(serving)
        async with parts.working(db, serving, local_socket) as services:
            if serving.is_demo:
                await parts.ensure_demo(services)
            async with _listening(serving, services, certificates) as runner:
                await orders.stop.wait()
                services.readiness.is_draining = True
                await orders.delay(serving.drain_delay_s)
                if orders.is_immediate:
                    runner.end_soon()
    _log.info("stopped")


def _local_socket(serving: config.Serving) -> str | None:
    database = serving.database
    return str(database.socket) if isinstance(database, config.Embedded) else None


async def _prepare(db: Database, serving: config.Serving) -> None:
    """An embedded database is migrated here and now: this process holds it, nobody else writes.

    Its connections are idle meanwhile, so the migration's is the only one that writes. A database
    that the demo refuses is left as it is.
    """
    if serving.is_demo and serving.seed_project is not None:
        await parts.check_demo(db, serving.seed_project)
    if isinstance(serving.database, config.Embedded) and not await migrations.is_usable(db):
        from firmtrail.schema import migrate  # noqa: PLC0415 (a second, mostly not needed)

        await migrate.migrate(serving.database.url, serving.instance)
    await parts.check(db, serving)
    parts.ensure_key(serving)


@contextlib.asynccontextmanager
async def _listening(
    serving: config.Serving, services: Services, certificates: sockets.Certificates | None
) -> AsyncIterator[HttpRunner]:
    """Accepts until the end, then lets the requests that it accepted finish."""
    runner = parts.runner(services, certificates.context if certificates else None)
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
            yield runner
    finally:
        await runner.cleanup()


def _tcp_site(runner: HttpRunner, serving: config.Serving) -> web.TCPSite:
    return web.TCPSite(runner, serving.host, serving.port, backlog=sockets.BACKLOG)

"""Serves in one process, from its start to exit code 0.

An embedded database is served twice: over TCP, and over a unix socket next to the file to commands
of the file's owner. On SIGTERM and SIGINT the process stops accepting, finishes the accepted
requests, records the queued reports, and ends; on SIGQUIT it waits for no request. The log line
"serving" means that it is ready.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence

import structlog
from aiohttp import web

from firmtrail import config
from firmtrail.cli import assembly, logs, loop, signals, sockets, systemd
from firmtrail.cli.back_ends import back_end
from firmtrail.database import file_lock
from firmtrail.exits import CouldNotRun
from firmtrail.http import descriptors
from firmtrail.http.call import Services
from firmtrail.http.connection import HttpRunner

SCRIPTS = (
    "firmtrail.access.reads",
    "firmtrail.recording.check_ins",
    "firmtrail.recording.crossing",
)
"""Modules of the transaction scripts that run all the time: imported before the first request."""

UMASK = 0o077
"""Restricts the files that a server creates to its own user, whatever umask it was started with."""

_log = structlog.get_logger("firmtrail")


def serve(serving: config.Serving, bound: Sequence[socket.socket]) -> None:
    """Serves on these sockets until a signal to stop."""
    prepare_process(serving)
    loop.tune_for_serving()
    with refusing_a_second_server():
        loop.run(_watched(serving, bound))


def prepare_process(serving: config.Serving) -> None:
    """Sets what all processes of a server inherit: the log, the limit of descriptors, the umask."""
    logs.configure(sys.stdout, serving.log_level, serving.log_format)
    descriptors.raise_limit()
    os.umask(UMASK)


@contextlib.contextmanager
def refusing_a_second_server() -> Iterator[None]:
    """Raises `CouldNotRun` if another server has locked the file."""
    try:
        yield
    except file_lock.Locked as error:
        raise CouldNotRun(
            f"{error}, and only one server may serve a file: stop that server, or name another "
            "database with --database."
        ) from error


async def _watched(serving: config.Serving, bound: Sequence[socket.socket]) -> None:
    reporting = asyncio.create_task(systemd.keep_reporting())
    try:
        await _serve(serving, bound)
    finally:
        reporting.cancel()


async def _serve(serving: config.Serving, bound: Sequence[socket.socket]) -> None:
    certificates = sockets.Certificates(serving.tls) if serving.tls else None
    reload = certificates.reload_or_log if certificates else signals.nothing_to_reload
    stop_signals = signals.stop_signals(reload)
    async with back_end(serving.database).opened(apart=SCRIPTS) as db:
        await assembly.prepare(db, serving)
        socket = serving.database.socket
        async with assembly.services(db, serving, str(socket) if socket else None) as services:
            if serving.is_demo:
                await assembly.ensure_demo(services)
            runner = assembly.runner(services, certificates.context if certificates else None)
            if serving.is_demo:
                runner.app.cleanup_ctx.append(assembly.demo_life_context)
            async with _listening(serving, bound, services, runner):
                await stop_signals.stop.wait()
                systemd.report(systemd.STOPPING)
                services.readiness.is_draining = True
                await stop_signals.delay(serving.drain_delay_s)
                if stop_signals.is_immediate:
                    runner.end_soon()
    _log.info("stopped")


@contextlib.asynccontextmanager
async def _listening(
    serving: config.Serving, bound: Sequence[socket.socket], services: Services, runner: HttpRunner
) -> AsyncIterator[None]:
    """Accepts connections until the end, then lets the accepted requests finish."""
    await runner.setup()
    try:
        with contextlib.ExitStack() as stack:
            if (path := serving.database.socket) is not None:
                private = stack.enter_context(sockets.private_socket(path))
                await web.SockSite(runner, private).start()
            for each in bound:
                await web.SockSite(runner, each, backlog=sockets.BACKLOG).start()
            _announce(serving, bound, services)
            yield
    finally:
        await runner.cleanup()


def _announce(serving: config.Serving, bound: Sequence[socket.socket], services: Services) -> None:
    where, *more = sockets.urls_of(bound, is_tls=serving.tls is not None)
    services.own_urls.append(where)
    also = {"also": more} if more else {}
    _log.info("serving", url=where, **also, database=str(serving.database))
    if serving.is_demo:
        assembly.announce_demo(where)
    systemd.report(systemd.READY)

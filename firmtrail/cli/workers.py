"""Several processes that serve one Postgres: gunicorn starts, watches and ends them.

Each worker has its own connections and its own event loop, and listens on the same socket. One
that dies is replaced, and its clients ask again. SIGTERM and SIGINT end all as one process ends.
"""

import contextlib
import functools
import logging
from typing import Any, override

import structlog
from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from firmtrail import config
from firmtrail.cli import logs, loop, parts, sockets
from firmtrail.eventstore.database import Unavailable
from firmtrail.http import descriptors
from firmtrail.http.app import RUNNER_OPTIONS

RESPONSE_TIMEOUT_S = 60
"""A worker whose event loop says nothing for so long is killed and replaced."""

_log = structlog.get_logger("firmtrail")


def serve(serving: config.Serving) -> None:
    """Serve until a signal says to stop; ends the process with its exit code."""
    logs.to_stdout()
    descriptors.raise_limit()
    loop.run(_prepare(serving))
    Gunicorn(serving).run()


async def _prepare(serving: config.Serving) -> None:
    """What fails for every worker fails here, with its reason; and the demo is populated once."""
    async with parts.opened(serving.database) as db:
        await parts.check(db, serving)
        parts.ensure_key(serving)
        async with parts.working(db, serving) as services:
            if serving.is_demo:
                await parts.ensure_demo(services)


class Gunicorn(BaseApplication):
    """gunicorn, set up by this process and not by files."""

    def __init__(self, serving: config.Serving) -> None:
        self._serving = serving
        super().__init__()

    @override
    def load_config(self) -> None:
        for name, value in _settings(self._serving).items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        """Give the coroutine function that makes a worker's application."""
        return functools.partial(_worker_runner, self._serving)


def _settings(serving: config.Serving) -> dict[str, Any]:
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return {
        "backlog": sockets.BACKLOG,
        "bind": f"{host}:{serving.port}",
        "workers": serving.workers,
        "worker_class": GunicornUVLoopWebWorker,  # the runner does TLS, and bounds its handshakes
        "logger_class": QuietLogger,
        "timeout": RESPONSE_TIMEOUT_S,
        "graceful_timeout": RUNNER_OPTIONS["shutdown_timeout"] + 5,
        "control_socket_disable": True,
        "when_ready": lambda arbiter: _announce(serving, arbiter),
        "child_exit": lambda _, worker: _forget(serving, worker.pid),
    }


def _announce(serving: config.Serving, arbiter: Any) -> None:
    host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
    url = sockets.url(host, port, is_tls=serving.tls is not None)
    _log.info("serving", url=url, database=str(serving.database), workers=serving.workers)


def _forget(serving: config.Serving, pid: int) -> None:
    """Drop what a dead worker said of its present; what it counted stays."""
    folder = str(serving.metrics_folder)
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call] # theirs


async def _worker_runner(serving: config.Serving) -> web.AppRunner:
    """The application with its own connections, which it closes when it is cleaned up.

    A worker that finds no database ends and is started again: a failure to start would end them
    all, those too that can wait for the database.
    """
    stack = contextlib.AsyncExitStack()
    try:
        db = await stack.enter_async_context(parts.opened(serving.database))
    except Unavailable as error:
        _log.warning("unavailable", reason=str(error))
        raise SystemExit(1) from error
    services = await stack.enter_async_context(parts.working(db, serving))
    runner = parts.runner(services, sockets.tls_context(serving.tls) if serving.tls else None)

    async def close(_: web.Application) -> None:
        await stack.aclose()

    runner.app.on_cleanup.append(close)
    loop.tune_for_serving()
    return runner


class QuietLogger(Logger):
    """Leaves the log to logs.py: one form, warnings and worse."""

    @override
    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

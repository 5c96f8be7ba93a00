"""Several processes that serve one Postgres: gunicorn starts, watches and ends them.

Each worker has its own connections and its own event loop, and listens on the same socket. A worker
that ends, or that can't start, is replaced after a moment and never takes the others down. SIGTERM
and SIGINT end all as one process ends; SIGHUP makes all read the TLS certificate again and replaces
none.
"""

import asyncio
import contextlib
import functools
import logging
import os
import queue
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import FrameType
from typing import Any, cast, override

import structlog
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from firmtrail import config
from firmtrail.cli import logs, loop, parts, signals, sockets
from firmtrail.cli.server import UMASK
from firmtrail.database.database import Unavailable
from firmtrail.http import descriptors
from firmtrail.http.app import RUNNER_OPTIONS, SERVICES
from firmtrail.http.connection import HttpRunner
from firmtrail.repeats import Repeats

RESPONSE_TIMEOUT_S = 60
"""A worker whose event loop says nothing for so long is killed and replaced."""

RETRY_S = 1.0
"""How long a worker that could not start waits before it tries again or is replaced."""

CAN_NOT_START = 1
"""An exit code with which gunicorn replaces a worker; 3 and 4 would end all of them."""

DRAIN = signal.SIGUSR2
"""From the master to its workers: say on /readyz that you drain."""

_log = structlog.get_logger("firmtrail")


def serve(serving: config.Serving) -> None:
    """Serve until a signal says to stop; ends the process with its exit code."""
    logs.to_stdout()
    descriptors.raise_limit()
    os.umask(UMASK)
    certificates = sockets.Certificates(serving.tls) if serving.tls else None
    with ProcessPoolExecutor(1, get_context("fork")) as process:
        process.submit(_prepare_apart, serving).result()
    Gunicorn(serving, certificates).run()


def _prepare_apart(serving: config.Serving) -> None:
    """Prepare in a process of its own.

    obstore reads a bucket with threads, which do not live on in a process that is forked later: in
    such a worker each request to a bucket would wait without end.
    """
    loop.run(_prepare(serving))
    _forget(serving, os.getpid())


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

    def __init__(self, serving: config.Serving, certificates: sockets.Certificates | None) -> None:
        self.serving = serving
        self.certificates = certificates
        """Loaded before the workers are forked: one that starts later has what this process has."""
        super().__init__()

    @override
    def load_config(self) -> None:
        for name, value in _settings(self.serving).items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        """Give the coroutine function that makes a worker's application."""
        return functools.partial(_worker_runner, self.serving, self.certificates)

    @override
    def run(self) -> None:
        Master(self).run()


class Master(Arbiter):
    """Watches the workers; signals mean to it what they mean to a single process."""

    app: Gunicorn

    def handle_hup(self) -> None:
        """Read the certificate again, here and in all workers."""
        if self.app.certificates is None:
            signals.nothing_to_reload()
            return
        self.app.certificates.reload_or_log()
        self.kill_workers(signal.SIGHUP)

    def handle_term(self) -> None:
        """Stop; with a delay in which the workers say that they drain."""
        _log.info("stopping", signal="SIGTERM")
        if delay_s := self.app.serving.drain_delay_s:
            _log.info("draining", seconds=delay_s)
            self.kill_workers(DRAIN)
            self._wait_for_signal(delay_s)
        super().handle_term()

    handle_int = handle_term

    def handle_quit(self) -> None:
        """Stop and wait for no request."""
        _log.info("stopping", signal="SIGQUIT")
        super().handle_quit()

    def handle_usr1(self) -> None:
        signals.ignore(signal.SIGUSR1)

    def handle_usr2(self) -> None:
        """Replacing the master would run it without the options of its environment."""
        signals.ignore(signal.SIGUSR2)

    def _wait_for_signal(self, seconds: float) -> None:
        """Until the time is over, or a second order to stop comes."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and self.WORKERS:
            with contextlib.suppress(queue.Empty):
                number = self.SIG_QUEUE.get(timeout=min(left_s, 0.5))
                if number in {*signals.ENDING, signal.SIGQUIT}:
                    return
            self.reap_workers()


def _settings(serving: config.Serving) -> dict[str, Any]:
    host = f"[{serving.host}]" if ":" in serving.host else serving.host
    return {
        "backlog": sockets.BACKLOG,
        "bind": f"{host}:{serving.port}",
        "workers": serving.workers,
        "worker_class": Worker,  # the runner does TLS, and bounds its handshakes
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


async def _worker_runner(
    serving: config.Serving, certificates: sockets.Certificates | None
) -> HttpRunner:
    """The application with its own connections, which it closes when it is cleaned up."""
    async with contextlib.AsyncExitStack() as stack:
        db = await stack.enter_async_context(parts.opened(serving.database))
        services = await stack.enter_async_context(parts.working(db, serving))
        runner = parts.runner(services, certificates.context if certificates else None)
        lifetime = stack.pop_all()

    async def close(_: object) -> None:
        await lifetime.aclose()

    runner.app.on_cleanup.append(close)
    loop.tune_for_serving()
    return runner


class Worker(GunicornUVLoopWebWorker):
    """aiohttp's worker, which can fail alone."""

    app: Gunicorn
    _make: Any
    _runner: HttpRunner | None = None

    @override
    def load_wsgi(self) -> None:
        super().load_wsgi()
        self._make, self.wsgi = self.wsgi, cast("Any", self._made)

    @override
    def init_signals(self) -> None:
        super().init_signals()
        self.loop.add_signal_handler(signal.SIGHUP, self._reload)
        self.loop.add_signal_handler(DRAIN, self._drain)

    @override
    async def _run(self) -> None:
        """Serve. A failure to start ends this worker alone, after a moment, with an exit code that
        gunicorn does not take for the whole server's."""
        try:
            await super()._run()
        except Exception as error:
            if self.booted or not self.alive:
                raise
            _log.error("a worker could not start and is replaced", exc_info=error)
            await asyncio.sleep(RETRY_S)
            raise SystemExit(CAN_NOT_START) from error

    async def _made(self) -> HttpRunner:
        """Make the application as soon as database, key and checkpoints can be reached."""
        repeats = Repeats()
        while self.alive:
            try:
                self._runner = await self._make()
            except (Unavailable, OSError) as error:
                if repeats.due() is not None:
                    _log.warning("a worker waits to start", reason=str(error))
                self.notify()
                await asyncio.sleep(RETRY_S)
            else:
                return self._runner
        raise SystemExit(0)

    @override
    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """End without waiting for requests."""
        if self._runner is not None:
            self._runner.end_soon()
        super().handle_quit(sig, frame)

    @override
    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """End at this moment: the master aborts a worker that is stuck, and what is stuck can't be
        awaited. Its connections to the database break, and with them its transactions."""
        os._exit(CAN_NOT_START)

    @override
    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        signals.ignore(signal.SIGUSR1)

    def _drain(self) -> None:
        if self._runner is not None:
            self._runner.app[SERVICES].readiness.is_draining = True

    def _reload(self) -> None:
        if self.app.certificates is not None:
            self.app.certificates.reload_or_log()


class QuietLogger(Logger):
    """Leaves the log to logs.py: one form, warnings and worse."""

    @override
    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

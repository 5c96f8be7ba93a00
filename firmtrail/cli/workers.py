"""Serves one database with several processes, which gunicorn starts, watches and ends.

Each worker has its own connections and its own event loop, and listens on the same sockets. A
worker that ends, or that can't start, is replaced after a moment and never ends the others. SIGTERM
and SIGINT end all workers as they end a single process; SIGHUP makes all of them read the TLS
certificate again and replaces none.

An embedded database is written by one more process, which the first process starts, and starts
again if it ends. The first process locks the file before anything else and gives the lock up last.
If it is killed, the workers end, and then the process that writes.
"""

import asyncio
import contextlib
import ctypes
import functools
import logging
import os
import queue
import signal
import socket
import time
from collections.abc import Sequence
from multiprocessing import get_context, sharedctypes
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NamedTuple, cast, override

import structlog
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from prometheus_client import multiprocess

from firmtrail import config
from firmtrail.application.app import RUNNER_OPTIONS, SERVICES
from firmtrail.cli import assembly, loop, signals, sockets, systemd
from firmtrail.cli.back_ends import Shared, back_end
from firmtrail.cli.server import SCRIPTS, prepare_process, refusing_a_second_server
from firmtrail.database.database import Unavailable
from firmtrail.database.sqlite_process import run_safely
from firmtrail.exits import CouldNotRun
from firmtrail.http.connection import HttpRunner
from firmtrail.repeats import Repeats

RESPONSE_TIMEOUT_S = 60
"""A worker whose event loop does not respond for this long is killed and replaced."""

RETRY_S = 1.0
"""How long a worker that could not start waits before it tries again or is replaced."""

CAN_NOT_START = 1
"""An exit code after which gunicorn replaces a worker; 3 and 4 would end all workers."""

DRAIN = signal.SIGUSR2
"""The master sends this to its workers, which then answer on /readyz that they drain."""

FOR_WORKERS = (*signals.ENDING, signal.SIGQUIT, signal.SIGHUP, DRAIN)
"""The signals that the master sends to workers, except that which aborts a stuck one."""

_log = structlog.get_logger("firmtrail")


def serve(serving: config.Serving, bound: Sequence[socket.socket]) -> None:
    """Serves on these sockets until a signal to stop, and ends the process with its exit code."""
    prepare_process(serving)
    certificates = sockets.Certificates(serving.tls) if serving.tls else None
    with contextlib.ExitStack() as stack:
        with refusing_a_second_server():
            shared = stack.enter_context(back_end(serving.database).shared(SCRIPTS))
        _prepare_apart(serving, shared)
        path = serving.database.socket
        private = [stack.enter_context(sockets.private_socket(path))] if path else []
        urls = sockets.urls_of(bound, is_tls=serving.tls is not None)
        Gunicorn(serving, Inherited(shared, urls, (*bound, *private), certificates)).run()


class Inherited(NamedTuple):
    """Holds what the first process gives to each worker by forking it."""

    shared: Shared
    urls: Sequence[str]
    """The addresses for clients."""
    bound: Sequence[socket.socket]
    """The sockets for clients, and the one for commands of an embedded database's owner."""
    certificates: sockets.Certificates | None
    """Loaded before the workers are forked: a later worker has the first process's certificate."""

    def close(self) -> None:
        """Closes this process's own copies of the sockets: gunicorn has others. As long as any copy
        is open, the kernel accepts connections that no process serves."""
        for each in self.bound:
            each.close()


def _prepare_apart(serving: config.Serving, shared: Shared) -> None:
    """Prepares in a separate process. obstore reads a bucket with threads, which do not survive in
    a process that is forked later: in such a worker each request to a bucket would wait forever.

    The process ends after its work even if this one was killed, so it keeps no file locked.
    """
    fork = get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_prepare_and_answer, args=(serving, shared, there))
    process.start()
    there.close()
    try:
        error, _ = here.recv()
    except EOFError:
        error = CouldNotRun("The process that prepares the server was killed. Start it again.")
    process.join()
    if error is not None:
        raise error


def _prepare_and_answer(serving: config.Serving, shared: Shared, answer: Connection) -> None:
    answer.send(run_safely(_prepare_here, serving, shared))


def _prepare_here(serving: config.Serving, shared: Shared) -> None:
    loop.run(_prepare(serving, shared))
    _forget(serving, os.getpid())


async def _prepare(serving: config.Serving, shared: Shared) -> None:
    """Migrates an embedded database; finds, with its reason, what would fail in every worker, and
    populates the demo once."""
    async with shared.opened() as db:
        await assembly.prepare(db, serving)
        async with assembly.services(db, serving) as services:
            if serving.is_demo:
                await assembly.ensure_demo(services)


class Gunicorn(BaseApplication):
    """Configures gunicorn from this process's settings instead of files."""

    def __init__(self, serving: config.Serving, inherited: Inherited) -> None:
        self.serving = serving
        self.inherited = inherited
        self.is_draining = sharedctypes.RawValue(ctypes.c_bool, False)  # noqa: FBT003 (positional)
        """Shared with all workers: a worker that is still starting misses the signal."""
        super().__init__()

    @override
    def load_config(self) -> None:
        for name, value in _settings(self.serving, self.inherited).items():
            self.cfg.set(name, value)

    @override
    def load(self) -> Any:
        """Returns the coroutine function that makes a worker's application."""
        return functools.partial(_worker_runner, self.serving, self.inherited)

    @override
    def run(self) -> None:
        Master(self).run()


class Master(Arbiter):
    """Watches the workers, and handles signals as a single process handles them."""

    app: Gunicorn

    def __init__(self, app: Gunicorn) -> None:
        super().__init__(app)
        self.systemd = True  # leaves the files of unix sockets to the one that made them

    def spawn_worker(self) -> int:
        """Starts a worker. Signals to it wait until its event loop handles them (`Worker._run`):
        before that, it has the master's handlers, or those of a loop that does not run yet."""
        signal.pthread_sigmask(signal.SIG_BLOCK, FOR_WORKERS)
        try:
            return int(super().spawn_worker())
        finally:
            if os.getpid() == self.pid:  # in the master
                signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_WORKERS)

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 (as gunicorn calls it)
        """Stops accepting, and ends all workers."""
        self.app.inherited.close()
        super().stop(graceful)

    def murder_workers(self) -> None:
        """Ends workers that are stuck, as each turn of the loop does, and reports that it turns."""
        systemd.report(systemd.ALIVE)
        self.app.inherited.shared.keep_running()
        super().murder_workers()

    def reap_workers(self) -> None:
        """Notices each process that has ended, also the one that writes an embedded database. Until
        the last worker has ended, that one is needed."""
        self.app.inherited.shared.keep_running()
        super().reap_workers()

    def handle_hup(self) -> None:
        """Reads the certificate again, here and in all workers."""
        if (certificates := self.app.inherited.certificates) is None:
            signals.nothing_to_reload()
            return
        certificates.reload_or_log()
        self.kill_workers(signal.SIGHUP)

    def handle_term(self) -> None:
        """Stops, after a delay in which the workers answer that they drain."""
        _log.info("stopping", signal="SIGTERM")
        systemd.report(systemd.STOPPING)
        if delay_s := self.app.serving.drain_delay_s:
            _log.info("draining", seconds=delay_s)
            self.app.is_draining.value = True
            self.kill_workers(DRAIN)
            self._wait_for_signal(delay_s)
        super().handle_term()

    handle_int = handle_term

    def handle_quit(self) -> None:
        """Stops without waiting for requests."""
        _log.info("stopping", signal="SIGQUIT")
        systemd.report(systemd.STOPPING)
        super().handle_quit()

    def handle_usr1(self) -> None:
        signals.ignore(signal.SIGUSR1)

    def handle_usr2(self) -> None:
        """Ignores it: gunicorn would replace the master, without the options of its environment."""
        signals.ignore(signal.SIGUSR2)

    def _wait_for_signal(self, seconds: float) -> None:
        """Waits until the time is over, or a second signal to stop is received."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and self.WORKERS:
            with contextlib.suppress(queue.Empty):
                number = self.SIG_QUEUE.get(timeout=min(left_s, 0.5))
                if number in {*signals.ENDING, signal.SIGQUIT}:
                    return
            self.reap_workers()


def _settings(serving: config.Serving, inherited: Inherited) -> dict[str, Any]:
    return {
        "backlog": sockets.BACKLOG,
        "bind": [f"fd://{os.dup(each.fileno())}" for each in inherited.bound],
        "workers": serving.workers,
        "worker_class": Worker,  # its runner does TLS, and limits handshakes
        "logger_class": QuietLogger,
        "timeout": RESPONSE_TIMEOUT_S,
        "graceful_timeout": RUNNER_OPTIONS["shutdown_timeout"] + 5,
        "control_socket_disable": True,
        "when_ready": lambda _: _announce(serving, inherited.urls),
        "post_fork": lambda _master, _worker: inherited.close(),
        "child_exit": lambda _, worker: _forget(serving, worker.pid),
    }


def _announce(serving: config.Serving, urls: Sequence[str]) -> None:
    url, *more = urls
    also = {"also": more} if more else {}
    database, workers = str(serving.database), serving.workers
    _log.info("serving", url=url, **also, database=database, workers=workers)
    if serving.is_demo:
        assembly.announce_demo(url)


def _forget(serving: config.Serving, pid: int) -> None:
    """Drops the gauges of a dead worker; its counters stay."""
    folder = str(serving.metrics_folder)
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call] # theirs


async def _worker_runner(serving: config.Serving, inherited: Inherited) -> HttpRunner:
    """Returns an application with its own connections, which it closes when it is cleaned up."""
    path, certificates = serving.database.socket, inherited.certificates
    async with contextlib.AsyncExitStack() as stack:
        db = await stack.enter_async_context(inherited.shared.opened())
        opening = assembly.services(db, serving, str(path) if path else None)
        services = await stack.enter_async_context(opening)
        services.own_urls.append(inherited.urls[0])
        runner = assembly.runner(services, certificates.context if certificates else None)
        lifetime = stack.pop_all()

    async def close(_: object) -> None:
        await lifetime.aclose()

    runner.app.on_cleanup.append(close)
    loop.tune_for_serving()
    return runner


class Worker(GunicornUVLoopWebWorker):
    """Runs aiohttp in a worker, whose failure ends no other worker."""

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
        """Serves. A failure to start ends only this worker, after a moment, with an exit code that
        does not make gunicorn end the whole server."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_WORKERS)
        try:
            await super()._run()
        except Exception as error:  # whatever it was, it is logged and ends this worker alone
            if self.booted or not self.alive:
                raise
            _log.error("a worker could not start and is replaced", exc_info=error)
            await asyncio.sleep(RETRY_S)
            raise SystemExit(CAN_NOT_START) from error

    async def _made(self) -> HttpRunner:
        """Makes the application as soon as database, key and checkpoints can be reached. Gives up
        when the first process has ended: this one would keep an embedded file locked."""
        repeats = Repeats()
        while self.alive and os.getppid() == self.ppid:
            try:
                self._runner = await self._make()
                self._drain()
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
        """Ends without waiting for requests."""
        if self._runner is not None:
            self._runner.end_soon()
        super().handle_quit(sig, frame)

    @override
    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """Ends immediately: the master aborts a worker that is stuck, so waiting would never end.
        Its database connections break, and with them its transactions."""
        os._exit(CAN_NOT_START)

    @override
    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        signals.ignore(signal.SIGUSR1)

    def _drain(self) -> None:
        if self._runner is not None and self.app.is_draining.value:
            self._runner.app[SERVICES].readiness.is_draining = True

    def _reload(self) -> None:
        if (certificates := self.app.inherited.certificates) is not None:
            certificates.reload_or_log()


class QuietLogger(Logger):
    """Leaves the log to logs.py: in one form, and only warnings and worse."""

    @override
    def setup(self, cfg: Any) -> None:
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)

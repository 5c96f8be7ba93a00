"""Starts `firmtrail` as processes that are forked from one that has imported it.

Importing takes two thirds of the processor time of a server that starts and ends, and more of a
command's. A forked process is a process in all that tests ask for: its files, its signals, its
session, its end. It runs `main` with the arguments and the environment of a command line. What
Python does before `main` is left to the tests that start a command line: of the commands (in
cli_test.py), workers, sockets, the deployment, the README.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from firmtrail.main import main

IMPORTED = (
    "tests.end_to_end.forked",
    "firmtrail.cli.audit",
    "firmtrail.cli.opening",
    "firmtrail.cli.serve",
    "firmtrail.cli.server",
    "firmtrail.cli.simulate",
    "firmtrail.database.postgres",
    "firmtrail.schema.migrate",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "tests.end_to_end.frozen",
)
"""Modules that import most of what a server needs, in this order. They open nothing and start no
thread: a fork would share it, or lack it."""

_context = get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))


type Constants = Mapping[tuple[str, str], object]
"""The new values of names, each of them with its module."""


class Streams(NamedTuple):
    """Holds the files of a process. It appends its output to them."""

    out: Path
    said: Path
    stdin: Path = Path(os.devnull)


class Forked:
    """A running process, with the methods of `subprocess.Popen` that tests call."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        streams: Streams,
        constants: Constants | None = None,
    ) -> None:
        """Starts it in a session of its own, with other values of constants."""
        given = (arguments, environment, streams, constants or {})
        self._process = _context.Process(target=_run, args=given)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("firmtrail", timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    streams: Streams,
    constants: Constants,
) -> None:
    os.setsid()  # Ctrl-C ends the tests, which stop the server
    appended = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for number, path, flags in (
        (0, streams.stdin, os.O_RDONLY),
        (1, streams.out, appended),
        (2, streams.said, appended),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 (multiprocessing has closed it)
    os.environ.clear()
    os.environ.update(environment)
    for (module, name), value in constants.items():
        setattr(import_module(module), name, value)
    sys.argv[1:] = arguments
    main()

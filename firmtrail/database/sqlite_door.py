"""Leads from the processes of a server to the one process that writes its file.

A `Door` is a pair of sockets. The process that writes has its inside. A process that has its
outside, because it made the door or was forked from the one that did, knocks: it sends one end of a
new connection through the door and keeps the other end. So nothing else on the machine can reach
the process that writes: no path and no port leads to it. Connections that are sent while no process
runs wait for the next one.
"""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

import structlog

from firmtrail import environment
from firmtrail.database.database import Unavailable
from firmtrail.repeats import Repeats

ENDED = "the process that writes has ended"

START_EVERY_S = 1.0
"""The least time between two starts, so that a process that can't run does not occupy a core."""
ANSWER_WAIT_S = 10.0
"""How long a worker waits for the process that writes, which may have to be started first."""
LAST_WAIT_S = 1.0
END_WAIT_S = 30.0
"""How long the end of the process that writes is waited for. If that still checkpoints, it keeps
the file locked until it has ended, so nothing is lost."""

_log = structlog.get_logger("firmtrail")
_repeats = Repeats()


def command(path: Path, modules: Sequence[str]) -> tuple[str, ...]:
    """Returns the command that writes a file; its standard input is the inside of a door."""
    return (sys.executable, "-m", f"{__package__}.sqlite_process", str(path), *modules)


class Door:
    """Sends connections to the process that has its inside, until `close`."""

    def __init__(self) -> None:
        self._outside, self.inside = socket.socketpair()
        self._outside.settimeout(0)

    def knock(self) -> socket.socket:
        """Returns a new connection to the process inside. Raises `Unavailable` if too many wait."""
        here, there = socket.socketpair()
        try:
            with there:
                socket.send_fds(self._outside, [b"k"], [there.fileno()])
        except OSError as error:
            here.close()
            raise Unavailable(f"the process that writes can't be reached: {error}") from error
        return here

    def close(self) -> None:
        """Lets nobody in any more; the process inside ends when its last connection is closed."""
        self._outside.close()
        self.inside.close()


class Entrance(Protocol):
    """Provides connections to a process that writes a file."""

    @property
    def answer_wait_s(self) -> float | None:
        """Returns how long a new connection may wait until the file is open; None: as long as it
        takes."""

    async def enter(self) -> socket.socket:
        """Returns a new connection, whose first answer says that the file is open. Raises
        `Unavailable`."""

    async def left(self) -> None:
        """Waits for the processes that end together with the connection that has just ended, at
        most `END_WAIT_S`."""


class OwnProcess:
    """Starts a process for each connection. It ends with its connection; one that does not is
    logged, and nothing is written until it has ended.

    The process inherits the file's lock, so no other one can write before both have ended.
    """

    answer_wait_s = None

    def __init__(self, path: Path, lock: IO[bytes], modules: Sequence[str]) -> None:
        self._command = command(path, modules)
        self._lock = lock
        self._process: asyncio.subprocess.Process | None = None

    async def enter(self) -> socket.socket:
        if self._process is not None and self._process.returncode is None:
            raise Unavailable("the process that wrote has not ended")
        door = Door()
        with contextlib.closing(door):
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=door.inside.fileno(),
                    pass_fds=(self._lock.fileno(),),
                    env=environment.with_huge_pages(),
                )
            except OSError as error:
                raise Unavailable(f"no process can be started: {error}") from error
            return door.knock()

    async def left(self) -> None:
        process = self._process
        assert process is not None
        try:
            async with asyncio.timeout(END_WAIT_S):
                _log_end(await process.wait())
        except TimeoutError:
            _log_stuck(process.pid)


class SharedProcess:
    """Keeps one process running that writes a file for this process and all that are forked from
    it. Only the process that made it starts and ends it; the others knock.

    The process that writes ends when all of them have ended, however that happened. Until then
    it, and each of them, has the file's lock.
    """

    def __init__(self, path: Path, lock: IO[bytes], modules: Sequence[str]) -> None:
        self._command = command(path, modules)
        self._lock = lock
        self._door = Door()
        self._maker = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at_s = -START_EVERY_S

    def keep_running(self) -> None:
        """Starts the process if it does not run: call it again and again."""
        if self._process is not None and (exit_code := self._process.poll()) is not None:
            self._process = None
            _log_end(exit_code)
        is_due = time.monotonic() >= self._started_at_s + START_EVERY_S
        if self._process is None and is_due:
            self._started_at_s = time.monotonic()
            try:
                self._process = subprocess.Popen(  # noqa: S603 (our own command)
                    self._command,
                    stdin=self._door.inside.fileno(),
                    pass_fds=(self._lock.fileno(),),
                    env=environment.with_huge_pages(),
                )
            except OSError as error:
                _log.error("no process can be started that writes", reason=str(error))

    @property
    def answer_wait_s(self) -> float:
        """Returns a short time if its maker has ended: nobody would start another process, and this
        one is about to end, too."""
        has_maker = self._maker in {os.getpid(), os.getppid()}
        return ANSWER_WAIT_S if has_maker else LAST_WAIT_S

    async def enter(self) -> socket.socket:
        return self._door.knock()

    async def left(self) -> None:
        """Returns immediately: the process serves others, and its maker looks after it."""

    def close(self) -> None:
        """Lets the process end, and waits for that, at most `END_WAIT_S`; call it when all others
        have ended. In a process that was forked, it does nothing."""
        if os.getpid() != self._maker:
            return
        self._door.close()
        if self._process is not None:
            try:
                self._process.wait(END_WAIT_S)
            except subprocess.TimeoutExpired:
                _log_stuck(self._process.pid)
        self._lock.close()


def _log_stuck(pid: int) -> None:
    _log.error("the process that writes does not end", pid=pid, seconds=END_WAIT_S)


def _log_end(exit_code: int) -> None:
    if exit_code and (left_out := _repeats.due(exit_code)) is not None:
        _log.error(ENDED, exit_code=exit_code, left_out=left_out)

"""Where the one connection lives that writes an embedded file: in a thread, or in a process.

A thread is there at once, and enough for a command or a test. But it shares the GIL with the event
loop, and each waits for the other; a server writes in a process of its own, which does nothing
else. Either way what is sent is run in the order in which it was sent, one after another.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from socket import socketpair
from typing import IO, Any, Protocol, cast

import aiosqlite
import structlog

from firmtrail.database import pickled
from firmtrail.database import sqlite_connection as on
from firmtrail.database.database import OutcomeUnknown, Unavailable
from firmtrail.repeats import Repeats

COMMITS = frozenset({on.play, on.commit})
"""What was on its way when its process ended may be in the file, or not."""

ENDED = "the process that writes has ended"

_log = structlog.get_logger("firmtrail")
_repeats = Repeats()


class Writer(Protocol):
    """The writing connection."""

    async def ready(self) -> None:
        """Have it there before a transaction begins. Raises `Unavailable`."""

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        """Run `function(sqlite3 connection, *args)` there; it is on its way when this returns."""

    async def close(self) -> None:
        """Let what was sent end, then close the connection."""


class InThread:
    """A connection in a thread of this process: aiosqlite's."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, path: Path, clock: Callable[[], float], *, writes: bool) -> "InThread":
        connection = cls(
            await aiosqlite.Connection(partial(on.connect, path, writes=writes), iter_chunk_size=64)
        )
        try:
            await connection.send(partial(on.set_up, clock=clock, writes=writes))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def ready(self) -> None:
        """It is."""

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        work: Coroutine[None, None, R] = self._run(function, args)
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)

    async def _run[R](self, function: Callable[..., R], args: Sequence[object]) -> R:
        """In one hop: through aiosqlite's cursor methods a statement costs 35-100 microseconds, and
        they offer no public way to run several at once. `_execute` is what they are all made of."""
        connection = self._connection
        call = connection._execute(on.run, function, connection._conn, args)  # type: ignore[no-untyped-call] # noqa: SLF001
        return cast("R", await call)

    async def close(self) -> None:
        await self._connection.close()


class Apart:
    """A connection in a process of its own, which ends with this one and is begun anew when it
    ended by itself.

    It inherits the file's lock, so that nobody else writes the file before both have ended.
    """

    def __init__(self, path: Path, lock: IO[bytes], modules: Sequence[str]) -> None:
        self._command = (sys.executable, "-m", f"{__package__}.sqlite_process", str(path), *modules)
        self._lock = lock
        self._sent: deque[tuple[Callable[..., object], asyncio.Future[Any]]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._ended: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        if self._writer is None:
            await self._start()

    async def _start(self) -> None:
        here, there = socketpair()
        with there:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=there.fileno(), pass_fds=(self._lock.fileno(),)
                )
            except OSError as error:
                raise Unavailable(f"no process can be started: {error}") from error
        reader, self._writer = await asyncio.open_connection(sock=here)
        opened = self._answer(on.set_up)
        self._ended = asyncio.create_task(self._listen(reader, process))
        await opened

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        if self._writer is None:
            raise Unavailable(ENDED)
        self._writer.writelines(pickled.message((function, args)))
        return self._answer(function)

    def _answer[R](self, function: Callable[..., R]) -> asyncio.Future[R]:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._sent.append((function, answer))
        return answer

    async def _listen(
        self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process
    ) -> None:
        try:
            while (message := await _received(reader)) is not None:
                error, result = pickled.content(message)
                _, answer = self._sent.popleft()
                if answer.done():  # whoever asked was cancelled
                    continue
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)
        finally:
            self._end()
            exit_code = await process.wait()
            if exit_code and (left_out := _repeats.due(exit_code)) is not None:
                _log.error(ENDED, exit_code=exit_code, left_out=left_out)

    def _end(self) -> None:
        """No more answers come."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        for function, answer in self._sent:
            if not answer.done():
                error = OutcomeUnknown if function in COMMITS else Unavailable
                answer.set_exception(error(ENDED))
        self._sent.clear()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.write_eof()
        if self._ended is not None:
            await self._ended


async def _received(reader: asyncio.StreamReader) -> bytes | None:
    """Returns the next message's content; None: there is none any more."""
    try:
        return await reader.readexactly(pickled.length(await reader.readexactly(pickled.HEADER)))
    except (asyncio.IncompleteReadError, OSError):
        return None

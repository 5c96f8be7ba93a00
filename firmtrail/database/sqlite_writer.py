"""Runs the one connection that writes an embedded file, in a thread or in a separate process.

A thread is ready immediately, and enough for a command or a test. But it shares the GIL with the
event loop, and each waits for the other; so a server writes in a separate process that does nothing
else. Both run what is sent one after another, in the order in which it was sent.
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

from firmtrail.database import messages, sqlite_connection
from firmtrail.database.database import OutcomeUnknown, Unavailable
from firmtrail.repeats import Repeats

COMMITS = frozenset({sqlite_connection.play, sqlite_connection.commit})
"""If the process ends while one of these runs, the transaction may be in the file or not."""

ENDED = "the process that writes has ended"
CLOSED = "the database is closed, because this process is ending"

_log = structlog.get_logger("firmtrail")
_repeats = Repeats()


class Writer(Protocol):
    """Runs functions on the writing connection."""

    async def ready(self) -> None:
        """Makes the connection ready for a transaction. Raises `Unavailable`."""

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        """Sends `function(sqlite3 connection, *args)` to run there; returns its awaitable
        result."""

    async def close(self) -> None:
        """Closes the connection after everything that was sent has ended. A later call of `send`
        raises `Unavailable`: a request whose client has gone may still be running."""


class ThreadConnection:
    """Runs a connection in a thread of this process, by aiosqlite."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._is_closed = False

    @classmethod
    async def open(
        cls, path: Path, clock: Callable[[], float], *, writes: bool
    ) -> "ThreadConnection":
        connection = cls(
            await aiosqlite.Connection(
                partial(sqlite_connection.connect, path, writes=writes), iter_chunk_size=64
            )
        )
        try:
            await connection.send(partial(sqlite_connection.set_up, clock=clock, writes=writes))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def ready(self) -> None:
        """Returns immediately: a thread is always ready."""

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        work: Coroutine[None, None, R] = self._run(function, args)
        return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)

    async def _run[R](self, function: Callable[..., R], args: Sequence[object]) -> R:
        """Runs the function in one hop. aiosqlite's cursor methods cost 35-100 microseconds a
        statement and can't run several in one call. They all use `_execute` internally."""
        if self._is_closed:
            raise Unavailable(CLOSED)
        connection = self._connection
        call = connection._execute(sqlite_connection.run, function, connection._conn, args)  # type: ignore[no-untyped-call] # noqa: SLF001
        return cast("R", await call)

    async def close(self) -> None:
        self._is_closed = True
        await self._connection.close()


class ProcessConnection:
    """Runs a connection in a separate process, which ends with this one. If it ends on its own, the
    next transaction starts another one.

    The process inherits the file's lock, so no other one can write before both have ended.
    """

    def __init__(self, path: Path, lock: IO[bytes], modules: Sequence[str]) -> None:
        self._command = (sys.executable, "-m", f"{__package__}.sqlite_process", str(path), *modules)
        self._lock = lock
        self._sent: deque[tuple[Callable[..., object], asyncio.Future[Any]]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._ended: asyncio.Task[None] | None = None
        self._is_closed = False

    async def ready(self) -> None:
        if self._is_closed:
            raise Unavailable(CLOSED)
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
        opened = self._answer(sqlite_connection.set_up)
        self._ended = asyncio.create_task(self._listen(reader, process))
        await opened

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        if self._writer is None:
            raise Unavailable(ENDED)
        self._writer.writelines(messages.encode((function, args)))
        return self._answer(function)

    def _answer[R](self, function: Callable[..., R]) -> asyncio.Future[R]:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._sent.append((function, answer))
        return answer

    async def _listen(
        self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process
    ) -> None:
        try:
            while (body := await _received(reader)) is not None:
                error, result = messages.decode(body)
                _, answer = self._sent.popleft()
                if answer.done():  # its caller was cancelled
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
        """Fails every request that is still unanswered: no more answers come."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        for function, answer in self._sent:
            if not answer.done():
                error = OutcomeUnknown if function in COMMITS else Unavailable
                answer.set_exception(error(ENDED))
        self._sent.clear()

    async def close(self) -> None:
        self._is_closed = True
        if self._writer is not None:
            self._writer.write_eof()
        if self._ended is not None:
            await self._ended


async def _received(reader: asyncio.StreamReader) -> bytes | None:
    """Returns the body of the next message; None: there are no more."""
    try:
        return await reader.readexactly(
            messages.body_bytes(await reader.readexactly(messages.HEADER_BYTES))
        )
    except (asyncio.IncompleteReadError, OSError):
        return None

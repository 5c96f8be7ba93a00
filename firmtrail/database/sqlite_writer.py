"""Runs the one connection that writes an embedded file, in a thread or in a separate process.

A thread is ready immediately, and enough for a command or a test. But it shares the GIL with the
event loop, and each waits for the other; so a server writes in a separate process that does nothing
else. Both run what is sent one after another, in the order in which it was sent.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, cast

import aiosqlite

from firmtrail.database import messages, sqlite_connection
from firmtrail.database.database import OutcomeUnknown, Unavailable
from firmtrail.database.sqlite_door import Entrance
from firmtrail.database.sqlite_process import run_safely

COMMITS = frozenset({sqlite_connection.play, sqlite_connection.commit})
"""If the process ends while one of these runs, the transaction may be in the file or not."""

CLOSED = "the database is closed, because this process is ending"
BROKEN = "the connection to the process that writes has ended"
SILENT = "the process that writes does not answer"
ENTER_AGAIN_AFTER_S = 1.0


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
    """Runs functions in a separate process. If their connection ends on its own, the next
    transaction enters again; with a process of its own, that starts another one."""

    def __init__(self, entrance: Entrance) -> None:
        self._entrance = entrance
        self._sent: deque[tuple[Callable[..., object], asyncio.Future[Any]]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._ended: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        """Is done when the process has answered the connection."""
        self._enters_again_at_s = 0.0
        self._is_closed = False

    async def ready(self) -> None:
        """Enters if there is no connection, once the process of the last one has ended, and returns
        when the process has the file open.

        A caller that is cancelled leaves the connection as it is, to the next one. If the process
        does not answer in time, callers that queued meanwhile don't wait as long again, one after
        another.
        """
        if self._is_closed:
            raise Unavailable(CLOSED)
        is_broken = self._writer is None or self._writer.is_closing()
        if is_broken and self._ended is not None:
            await asyncio.shield(self._ended)
        if self._writer is None:
            await self._enter()
        assert self._opened is not None
        if self._opened.done():
            return self._opened.result()
        try:
            async with asyncio.timeout(self._entrance.answer_wait_s):
                await asyncio.shield(self._opened)
        except TimeoutError:
            await self._give_up()
            raise Unavailable(SILENT) from None

    async def _enter(self) -> None:
        if monotonic() < self._enters_again_at_s:
            raise Unavailable(SILENT)
        reader, self._writer = await asyncio.open_connection(sock=await self._entrance.enter())
        self._opened = self._answer(sqlite_connection.set_up)
        self._opened.add_done_callback(_note_error)
        self._ended = asyncio.create_task(self._listen(reader))

    async def _give_up(self) -> None:
        """Ends a connection that nobody has answered."""
        self._enters_again_at_s = monotonic() + ENTER_AGAIN_AFTER_S
        if self._writer is not None and self._ended is not None:
            self._writer.transport.abort()
            await asyncio.shield(self._ended)

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        if self._writer is None or self._writer.is_closing():
            raise Unavailable(BROKEN)
        self._writer.writelines(messages.encode((function, args)))
        return self._answer(function)

    def _answer[R](self, function: Callable[..., R]) -> asyncio.Future[R]:
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._sent.append((function, answer))
        return answer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while (body := await _received(reader)) is not None:
                unread, read = run_safely(messages.decode, body)
                error, result = (unread, None) if unread is not None else read
                _, answer = self._sent.popleft()
                if answer.done():  # its caller was cancelled
                    continue
                if error is not None:
                    answer.set_exception(error)
                else:
                    answer.set_result(result)
        finally:
            self._end()
            await self._entrance.left()

    def _end(self) -> None:
        """Fails every request that is still unanswered: no more answers come."""
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        for function, answer in self._sent:
            if not answer.done():
                error = OutcomeUnknown if function in COMMITS else Unavailable
                answer.set_exception(error(BROKEN))
        self._sent.clear()

    async def close(self) -> None:
        self._is_closed = True
        if self._writer is not None and self._opened is not None:
            if self._opened.done():
                self._writer.write_eof()
            else:  # perhaps no process will ever answer, and nothing was sent
                self._writer.transport.abort()
        if self._ended is not None:
            await self._ended


def _note_error(answer: asyncio.Future[None]) -> None:
    """Keeps asyncio from reporting an error that no caller waits for; later callers receive it."""
    if not answer.cancelled():
        answer.exception()


async def _received(reader: asyncio.StreamReader) -> bytes | None:
    """Returns the body of the next message; None: there are no more."""
    try:
        return await reader.readexactly(
            messages.body_bytes(await reader.readexactly(messages.HEADER_BYTES))
        )
    except (asyncio.IncompleteReadError, OSError):
        return None

"""Pickles everything that tests send to a writing connection in a thread, as for a process.

So every test on SQLite shows that its arguments, results and errors can cross between processes.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from firmtrail.database import messages, sqlite_connection
from firmtrail.database.sqlite_process import run_safely
from firmtrail.database.sqlite_writer import Writer


class Crossing:
    """A `Writer` that wraps another one."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def ready(self) -> None:
        await self._writer.ready()

    def send[R](self, function: Callable[..., R], *args: object) -> Awaitable[R]:
        return self._answer(self._writer.send(_there, _crossed((function, args))))

    async def _answer(self, crossed: Awaitable[bytes]) -> Any:
        error, result = messages.decode(await crossed)
        if error is not None:
            raise error
        return result

    async def close(self) -> None:
        await self._writer.close()


def _there(connection: sqlite3.Connection, message: bytes) -> bytes:
    function, args = messages.decode(message)
    return _crossed(run_safely(sqlite_connection.run, function, connection, args))


def _crossed(content: object) -> bytes:
    _, message = messages.encode(content)
    return message

"""The process that writes an embedded file for a server: `python -m … FILE [MODULE …]`.

Its standard input is a socket: over it come functions to run on the connection, and back goes what
they return or raise. The first answer, unasked, says that the connection is open; then MODULEs are
imported, before they are needed. It ends when the server's side of the socket is closed, however
that happened; what had been sent is run first.
"""

import contextlib
import importlib
import signal
import socket
import sqlite3
import sys
import traceback
from collections.abc import Callable, Iterator
from io import BufferedRWPair
from pathlib import Path
from typing import Any

from firmtrail.database import collector, pickled
from firmtrail.database import sqlite_connection as on

SENT_TO_GROUP = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""What a terminal or a supervisor sends to the server and to this process alike."""


def main(path: Path, modules: list[str]) -> None:
    for number in SENT_TO_GROUP:
        signal.signal(number, signal.SIG_IGN)  # the server ends this
    channel = socket.socket(fileno=sys.stdin.fileno())
    with channel, channel.makefile("rwb") as stream:
        error, connection = tried(_opened, path)
        with contextlib.suppress(ConnectionError):  # the server has ended
            _answer(stream, error, None)
            if connection is not None:
                for module in modules:
                    importlib.import_module(module)
                collector.look_rarely()
                _serve(connection, stream)


def _opened(path: Path) -> sqlite3.Connection:
    connection = on.connect(path, writes=True)
    on.set_up(connection, writes=True)
    return connection


def _serve(connection: sqlite3.Connection, stream: BufferedRWPair) -> None:
    try:
        for function, args in _messages(stream):
            _answer(stream, *tried(on.run, function, connection, args))
    finally:
        connection.close()


def tried(function: Callable[..., Any], *args: object) -> tuple[Exception | None, Any]:
    """Returns what it raised, and what it returned. An error takes its frames along as a note."""
    try:
        return None, function(*args)
    except Exception as error:  # noqa: BLE001 (whoever sent it gets it)
        error.add_note("".join(traceback.format_tb(error.__traceback__)))
        return error, None


def _messages(stream: BufferedRWPair) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    while len(header := stream.read(pickled.HEADER)) == pickled.HEADER:
        message = stream.read(length := pickled.length(header))
        if len(message) == length:
            yield pickled.content(message)


def _answer(stream: BufferedRWPair, error: Exception | None, result: object) -> None:
    stream.writelines(pickled.message((error, result)))
    stream.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

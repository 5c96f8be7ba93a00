"""Writes an embedded file for a server, as a process: `python -m … FILE [MODULE …]`.

Its standard input is a socket. It receives functions to run on the connection, and sends back what
they return or raise. Its first message, without a request, says that the connection is open; then
it imports the MODULEs, before they are needed. It ends when the server's side of the socket is
closed, for whatever reason, after it has run everything that had been sent.
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

from firmtrail.database import collector, messages, sqlite_connection

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
"""Signals that a terminal or a supervisor sends to the server and to this process alike."""


def main(path: Path, modules: list[str]) -> None:
    for number in SENT_TO_GROUP:
        signal.signal(number, signal.SIG_IGN)  # the server ends this process
    channel = socket.socket(fileno=sys.stdin.fileno())
    with channel, channel.makefile("rwb") as stream:
        error, connection = run_safely(_open, path)
        with contextlib.suppress(ConnectionError):  # the server has ended
            _answer(stream, error, None)
            if connection is not None:
                for module in modules:
                    importlib.import_module(module)
                collector.collect_rarely()
                _serve(connection, stream)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite_connection.connect(path, writes=True)
    sqlite_connection.set_up(connection, writes=True)
    return connection


def _serve(connection: sqlite3.Connection, stream: BufferedRWPair) -> None:
    try:
        for function, args in _messages(stream):
            _answer(stream, *run_safely(sqlite_connection.run, function, connection, args))
    finally:
        connection.close()


def run_safely(function: Callable[..., Any], *args: object) -> tuple[Exception | None, Any]:
    """Returns the error that it raised, and its result. The error carries its frames as a note."""
    try:
        return None, function(*args)
    except Exception as error:  # noqa: BLE001 (the sender receives it)
        error.add_note("".join(traceback.format_tb(error.__traceback__)))
        return error, None


def _messages(stream: BufferedRWPair) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
    while len(header := stream.read(messages.HEADER_BYTES)) == messages.HEADER_BYTES:
        body = stream.read(length := messages.body_bytes(header))
        if len(body) == length:
            yield messages.decode(body)


def _answer(stream: BufferedRWPair, error: Exception | None, result: object) -> None:
    stream.writelines(messages.encode((error, result)))
    stream.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Writes an embedded file for a server, as a process: `python -m … FILE [MODULE …]`.

Its standard input is the inside of a door (`sqlite_door`), through which each process of the server
has sent a connection. It receives functions to run on the file, and sends back what they return or
raise. All are run one after another. While a process has a transaction open, only its functions are
run; if it ends, or stalls while others wait, its transaction is rolled back.

Its first message to each process, without a request, says that the file is open; after the first of
these it imports the MODULEs, before they are needed. It ends when all connections and the outside
of the door are closed, for whatever reason, after it has run everything that had been sent.
"""

import importlib
import signal
import socket
import sqlite3
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmtrail.database import collector, messages, sqlite_connection
from firmtrail.database.sqlite_channels import Channel, Channels

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
    error, connection = run_safely(_open, path)
    channels = Channels(socket.socket(fileno=sys.stdin.fileno()), messages.encode((error, None)))
    channels.wait_for_first()
    if connection is not None:
        for module in modules:
            importlib.import_module(module)
        collector.collect_rarely()
        _serve(connection, channels)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite_connection.connect(path, writes=True)
    sqlite_connection.set_up(connection, writes=True)
    return connection


def _serve(connection: sqlite3.Connection, channels: Channels) -> None:
    try:
        while (channel := channels.next()) is not None:
            _run(connection, channel)
            while connection.in_transaction:
                if channels.has_next(channel):
                    _run(connection, channel)
                else:
                    sqlite_connection.roll_back(connection)
                    channels.drop(channel)
    finally:
        connection.close()


def _run(connection: sqlite3.Connection, channel: Channel) -> None:
    error, message = run_safely(_message, connection, channel.take())
    channel.answer(messages.encode((error, None)) if error is not None else message)


def _message(connection: sqlite3.Connection, sent: bytes) -> messages.Framed:
    """Runs the sent call, and returns the message with its result. Raises what the call raises, and
    what the values raise that can't be unpacked here, or packed."""
    function, args = messages.decode(sent)
    return messages.encode((None, sqlite_connection.run(function, connection, args)))


def run_safely(function: Callable[..., Any], *args: object) -> tuple[Exception | None, Any]:
    """Returns the error that it raised, and its result. The error carries its frames as a note, and
    can cross to another process: in place of one that can't, a `RuntimeError` has its text."""
    try:
        return None, function(*args)
    except Exception as error:  # noqa: BLE001 (the sender receives it)
        error.add_note("".join(traceback.format_tb(error.__traceback__)))
        return _crossing(error), None


def _crossing(error: Exception) -> Exception:
    try:
        messages.decode(messages.encode(error)[1])
    except Exception:  # noqa: BLE001 (whatever the class of the error raises for pickle)
        text = RuntimeError(f"{type(error).__name__}: {error}")
        for note in error.__notes__:
            text.add_note(note)
        return text
    return error


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

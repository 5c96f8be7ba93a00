"""Takes the calls of the processes that a file is written for, and sends back the answers.

Each process has a connection of its own, which came through the door (`sqlite_door`). Nothing here
blocks on one of them: a process that stalls in the middle of a message, or does not read its
answers, keeps no other one waiting.
"""

import contextlib
import select
import socket
from time import monotonic

from firmtrail.database import messages

RECEIVED_BYTES = 64 * 1024
SILENT_S = 10.0
"""How long a process may leave its transaction open without a statement while others could wait for
it; PostgreSQL's limit is `idle_in_transaction_session_timeout`."""


class Channel:
    """Holds one connection, with what has arrived and what is not yet sent."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self.socket = connection
        self.is_ended = False
        """Whether nothing more arrives."""
        self._received = bytearray()
        self._unsent = bytearray()

    @property
    def wanted(self) -> int:
        """Returns the events of poll(2) to wait for. Nothing more is received while a whole message
        is there, so what a process sends ahead stays bounded by its socket."""
        receives = 0 if self.is_ended or self.has_message else select.POLLIN
        return receives | (select.POLLOUT if self._unsent else 0)

    @property
    def has_message(self) -> bool:
        return len(self._received) >= messages.HEADER_BYTES + self._body_bytes()

    @property
    def is_done(self) -> bool:
        """Returns whether there is nothing left to run or to send."""
        return self.is_ended and not self.has_message and not self._unsent

    def _body_bytes(self) -> int:
        header = self._received[: messages.HEADER_BYTES]
        return messages.body_bytes(bytes(header)) if len(header) == messages.HEADER_BYTES else 0

    def take(self) -> bytes:
        """Removes the first message, which must be there, and returns its body."""
        end = messages.HEADER_BYTES + self._body_bytes()
        body = bytes(self._received[messages.HEADER_BYTES : end])
        del self._received[:end]
        return body

    def answer(self, message: messages.Framed) -> None:
        for part in message:
            self._unsent += part
        self.send()

    def transfer(self) -> None:
        """Sends and receives as much as is possible now."""
        if self._unsent:
            self.send()
        if self.wanted & select.POLLIN:
            self._receive()

    def send(self) -> None:
        """Sends what the socket takes. Answers to a process that has ended are dropped."""
        try:
            del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()

    def _receive(self) -> None:
        try:
            data = self.socket.recv(RECEIVED_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.is_ended = not data
        self._received += data


class Channels:
    """Holds the connections that came through a door, in the order in which they have turns."""

    def __init__(self, door: socket.socket, greeting: messages.Framed) -> None:
        """Each new connection is sent the greeting first."""
        self._door = door
        self._greeting = greeting
        self._is_open = True
        """Whether more connections may come: some process has the outside of the door."""
        self._channels: list[Channel] = []

    def wait_for_first(self) -> None:
        """Returns when the first connection has come, or none can come."""
        while self._is_open and not self._channels:
            self._transfer(None)

    def next(self) -> Channel | None:
        """Waits for a message, and returns the connection that has one. If several have, they take
        turns. Returns None when all connections have ended, and no more can come."""
        while self._channels or self._is_open:
            is_idle = not any(channel.has_message for channel in self._channels)
            self._transfer(None if is_idle else 0)
            for channel in self._channels:
                if channel.has_message:
                    self._channels.remove(channel)
                    self._channels.append(channel)
                    return channel
        return None

    def has_next(self, channel: Channel) -> bool:
        """Waits for the next message of this connection, whose transaction is open. Returns False
        if the connection has ended, or sends nothing for `SILENT_S` although it is not alone."""
        until_s = monotonic() + SILENT_S
        while not channel.has_message:
            is_alone = len(self._channels) == 1 and not self._is_open
            left_s = None if is_alone else until_s - monotonic()
            if channel.is_ended or (left_s is not None and left_s <= 0):
                return False
            self._transfer(left_s)
        return True

    def drop(self, channel: Channel) -> None:
        """Closes the connection: its process learns that its transaction has ended."""
        channel.socket.close()
        with contextlib.suppress(ValueError):  # it had ended, and left
            self._channels.remove(channel)

    def _transfer(self, wait_s: float | None) -> None:
        """Sends and receives what is possible, having waited until something is."""
        poll, by_descriptor = select.poll(), {}
        for channel in self._channels:
            if wanted := channel.wanted:
                by_descriptor[channel.socket.fileno()] = channel
                poll.register(channel.socket, wanted)
        if self._is_open:
            poll.register(self._door, select.POLLIN)
        for descriptor, _ in poll.poll(None if wait_s is None else wait_s * 1000):
            if descriptor == self._door.fileno():
                self._accept()
            else:
                by_descriptor[descriptor].transfer()
        for channel in [each for each in self._channels if each.is_done]:
            self.drop(channel)

    def _accept(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._door, 1, 1)
        except ConnectionError:
            data, descriptors = b"", []
        self._is_open = bool(data)
        for descriptor in descriptors:
            channel = Channel(socket.socket(fileno=descriptor))
            channel.answer(self._greeting)
            self._channels.append(channel)

"""One process writes a file for several others: they take turns, and none can keep the others from
writing."""

import asyncio
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from firmtrail.database import (
    messages,
    sqlite,
    sqlite_channels,
    sqlite_connection,
    sqlite_door,
    sqlite_process,
)
from firmtrail.database.database import OutcomeUnknown, Statement, Unavailable
from firmtrail.database.file_lock import Locked
from firmtrail.database.sqlite import SQLite
from firmtrail.database.sqlite_channels import Channels
from firmtrail.database.sqlite_door import Door, SharedProcess
from firmtrail.database.sqlite_writer import ProcessConnection
from tests.contract.scripts import COUNT, SEEN, dying, process_id, seeing
from tests.databases import raw, read, write
from tests.patience import PATIENCE_S

SILENT_S = 2.0


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
async def process(path: Path) -> AsyncIterator[SharedProcess]:
    process = await sqlite.share(path, [])
    yield process
    process.close()


@pytest.fixture
async def two(path: Path, process: SharedProcess) -> AsyncIterator[list[SQLite]]:
    two = [await SQLite.open_shared(path, process) for _ in range(2)]
    yield two
    for each in two:
        await each.close()


def hang_up(db: SQLite) -> None:
    """Breaks the connection to the process that writes, as the end of a worker does."""
    assert isinstance(db._writer, ProcessConnection)
    assert db._writer._writer is not None
    db._writer._writer.transport.abort()


async def has_noticed(db: SQLite) -> None:
    """Waits until the connection is known to have ended."""
    assert isinstance(db._writer, ProcessConnection)
    async with asyncio.timeout(PATIENCE_S):
        while db._writer._writer is not None:
            await asyncio.sleep(0.01)


async def run_again(process: SharedProcess, pid: int) -> None:
    """Looks after the process, as the first process of a server does, until another one runs."""
    async with asyncio.timeout(PATIENCE_S):
        while process._process is None or process._process.pid == pid:
            process.keep_running()
            await asyncio.sleep(0.05)


async def test_all_write_by_one_process(two: list[SQLite], path: Path) -> None:
    first, second = two
    assert await first.play(process_id) == await second.play(process_id)
    await asyncio.gather(*(two[n % 2].play(seeing, f"d{n}") for n in range(20)))
    assert await read(first, COUNT) == await read(second, COUNT) == [[20]]
    with pytest.raises(Locked):
        await SQLite.open(path)


async def test_an_open_transaction_makes_the_others_wait_and_is_not_mixed_with_theirs(
    two: list[SQLite],
) -> None:
    first, second = two
    async with first.transaction() as tx:
        await tx.run(Statement(SEEN, ("d1",)))
        waiting = [asyncio.create_task(second.play(seeing, f"e{n}")) for n in range(3)]
        await asyncio.sleep(0.2)
        assert not any(each.done() for each in waiting)
        assert await read(second, COUNT) == [[0]]
    await asyncio.gather(*waiting)
    assert await read(second, COUNT) == [[4]]


async def test_the_transaction_of_a_worker_that_ended_is_undone(two: list[SQLite]) -> None:
    first, second = two

    async def write_half() -> None:
        async with first.transaction() as tx:
            await tx.run(Statement(SEEN, ("d1",)))
            hang_up(first)
            await tx.run(Statement(SEEN, ("d2",)))

    with pytest.raises(Unavailable, match="ended"):
        await write_half()
    await write(second, SEEN, "e1")
    await write(first, SEEN, "d3")
    assert await read(first, "SELECT device FROM device_seen ORDER BY 1") == [["d3"], ["e1"]]


async def test_a_process_that_ends_is_started_once_for_all(
    two: list[SQLite], process: SharedProcess
) -> None:
    first, second = two
    pid = await first.play(process_id)
    results = await asyncio.gather(
        first.play(dying, "d1"), second.play(seeing, "e1"), return_exceptions=True
    )
    assert isinstance(results[0], OutcomeUnknown)
    waiting = [asyncio.create_task(each.play(process_id)) for each in two]
    await asyncio.sleep(0.2)
    assert not any(each.done() for each in waiting), "connections wait for the next process"
    await run_again(process, pid)
    first_pid, second_pid = await asyncio.gather(*waiting)
    assert first_pid == second_pid != pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_does_not_answer_keeps_nobody_waiting_for_ever(
    two: list[SQLite], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = two
    pid = await first.play(process_id)
    monkeypatch.setattr(sqlite_door, "ANSWER_WAIT_S", 0.3)
    os.kill(pid, signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    results = await asyncio.gather(
        *(first.play(seeing, f"d{n}") for n in range(20)), return_exceptions=True
    )
    results += await asyncio.gather(
        *(first.play(seeing, f"d{n}") for n in range(20)), return_exceptions=True
    )
    assert all(isinstance(each, Unavailable) for each in results)
    assert asyncio.get_running_loop().time() - began < 20 * sqlite_door.ANSWER_WAIT_S


async def test_a_cancelled_wait_for_the_process_leaves_nobody_waiting_for_ever(
    two: list[SQLite], process: SharedProcess, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    third = await SQLite.open_shared(path, process)
    pid = await first.play(process_id)
    os.kill(pid, signal.SIGKILL)
    for each in (*two, third):
        await has_noticed(each)
        cancelled = asyncio.create_task(each.play(seeing, "d1"))
        await asyncio.sleep(0.2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    monkeypatch.setattr(sqlite_door, "ANSWER_WAIT_S", 0.3)
    async with asyncio.timeout(PATIENCE_S):
        await third.close()
        with pytest.raises(Unavailable, match="does not answer"):
            await first.play(seeing, "d2")
    monkeypatch.undo()
    await run_again(process, pid)
    assert await second.play(seeing, "d3") == "D3"
    assert await read(first, "SELECT device FROM device_seen") == [["d3"]]


async def test_a_file_that_is_no_database_is_refused_to_each(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database, but long enough to be one" * 100)
    process = await sqlite.share(path, [])
    try:
        with pytest.raises(Unavailable, match="not a database"):
            await SQLite.open_shared(path, process)
        assert process._process is not None
        again = asyncio.create_task(SQLite.open_shared(path, process))
        await run_again(process, process._process.pid)
        with pytest.raises(Unavailable, match="not a database"):
            await again
    finally:
        process.close()


async def test_a_process_that_does_not_end_is_reported_and_not_waited_for(
    process: SharedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.keep_running()
    running = process._process
    assert running is not None
    monkeypatch.setattr(sqlite_door, "END_WAIT_S", 0.1)
    os.kill(running.pid, signal.SIGSTOP)
    try:
        with capture_logs() as lines:
            process.close()
        assert [(line["event"], line["pid"]) for line in lines] == [
            ("the process that writes does not end", running.pid)
        ]
    finally:
        os.kill(running.pid, signal.SIGCONT)
    assert running.wait(PATIENCE_S) == 0


class Caller:
    """Talks to `serving` as a worker does, message by message."""

    def __init__(self, door: Door) -> None:
        self.socket = door.knock()
        self.socket.settimeout(PATIENCE_S)
        assert self.answer() == (None, None)

    def send(self, function: Any, *args: object) -> None:
        self.socket.sendall(b"".join(messages.encode((function, args))))

    def answer(self) -> Any:
        header = self._received(messages.HEADER_BYTES)
        return messages.decode(self._received(messages.body_bytes(header)))

    def _received(self, count: int) -> bytes:
        body = b""
        while len(body) < count:
            part = self.socket.recv(count - len(body))
            if not part:
                raise EOFError
            body += part
        return body


@pytest.fixture
def door(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """The outside of a door whose inside a thread serves, as the process does."""
    monkeypatch.setattr(sqlite_channels, "SILENT_S", SILENT_S)
    door = Door()
    inside = socket.socket(fileno=os.dup(door.inside.fileno()))

    def serve() -> None:
        connection = sqlite_connection.connect(path, writes=True)
        sqlite_connection.set_up(connection, writes=True)
        with inside:
            sqlite_process._serve(connection, Channels(inside, messages.encode((None, None))))

    thread = threading.Thread(target=serve)
    thread.start()
    yield door
    door.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it ends when nobody is left"


def begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")


def commit(connection: sqlite3.Connection) -> None:
    connection.execute("COMMIT")


def see(connection: sqlite3.Connection, device: str) -> str:
    connection.execute(SEEN.replace("$1", "?"), (device,))
    return device


def count(connection: sqlite3.Connection) -> int:
    return cast("int", connection.execute(COUNT).fetchone()[0])


def large(connection: sqlite3.Connection) -> bytes:
    return bytes(4 * 1024 * 1024)


def test_a_silent_transaction_is_undone_when_others_wait(door: Door) -> None:
    silent, other = Caller(door), Caller(door)
    silent.send(begin)
    silent.send(see, "d1")
    assert [silent.answer() for _ in range(2)] == [(None, None), (None, "d1")]
    other.send(count)
    assert other.answer() == (None, 0)
    with pytest.raises(EOFError):
        silent.answer()
    silent.socket.close()
    other.socket.close()


def test_a_transaction_may_take_longer_than_one_silence(door: Door) -> None:
    busy, other = Caller(door), Caller(door)
    busy.send(begin)
    assert busy.answer() == (None, None)
    other.send(count)
    for n in range(5):
        threading.Event().wait(SILENT_S / 4)
        busy.send(see, f"d{n}")
        assert busy.answer() == (None, f"d{n}")
    busy.send(commit)
    assert busy.answer() == (None, None)
    assert other.answer() == (None, 5)
    busy.socket.close()
    other.socket.close()


def test_half_a_message_and_an_answer_that_nobody_reads_keep_nobody_waiting(door: Door) -> None:
    half, deaf, other = (Caller(door) for _ in range(3))
    half.socket.sendall(b"".join(messages.encode((count, ())))[:-1])
    deaf.send(large)
    other.send(count)
    assert other.answer() == (None, 0)
    assert deaf.answer() == (None, bytes(4 * 1024 * 1024))
    for each in (half, deaf, other):
        each.socket.close()


def test_what_was_sent_before_the_end_is_run_and_answered(door: Door) -> None:
    ending = Caller(door)
    for n in range(100):
        ending.send(see, f"d{n}")
    ending.socket.shutdown(socket.SHUT_WR)
    assert [ending.answer() for _ in range(100)] == [(None, f"d{n}") for n in range(100)]
    other = Caller(door)
    other.send(count)
    assert other.answer() == (None, 100)
    ending.socket.close()
    other.socket.close()


def test_connections_take_turns(door: Door) -> None:
    """One has sent a hundred calls ahead; another one's first call waits for one of them."""
    greedy, modest = Caller(door), Caller(door)
    greedy.send(begin)
    greedy.answer()
    modest.send(count)
    for n in range(100):
        greedy.send(see, f"d{n}")
    greedy.send(commit)
    for n in range(100):
        greedy.send(see, f"e{n}")
    error, found = modest.answer()
    assert error is None
    assert 100 <= found <= 102
    greedy.socket.close()
    modest.socket.close()


async def test_the_file_is_free_when_the_last_has_ended(path: Path) -> None:
    process = await sqlite.share(path, [])
    db = await SQLite.open_shared(path, process)
    pid = await db.play(process_id)
    assert await raw(db, "PRAGMA journal_mode") == [("wal",)]
    await db.close()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await (await SQLite.open(path)).close()

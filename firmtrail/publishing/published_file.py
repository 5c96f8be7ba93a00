"""What was last published of each log, kept outside the database and changed by compare and set.

A database that is rolled back takes its own checkpoints along; what is kept here does not go with
it. `Store` is what the publisher asks for; outside_bucket.py keeps it in a bucket. `File` keeps it
in one file: JSON, an object of origin -> signed checkpoint. Any number of servers share it on one
file system: an OS lock (flock on `FILE.lock`) makes them change it one after another, and it is
replaced whole (temporary file, fsync, rename, fsync of the folder). The functions block: call them
on a thread.
"""

import asyncio
import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol, override

import msgspec

from firmtrail.database import files

LOCK_TIMEOUT_S = 5
LOCK_EVERY_S = 0.005

type Notes = dict[str, str]
"""origin -> the last checkpoint published of it, as its signed note."""


class BadFile(Exception):
    """The file is not what `compare_and_set` wrote."""


class Move(NamedTuple):
    """From the note that is to be there (None: none) to the next."""

    before: str | None
    after: str


class Store(Protocol):
    """Keeps the last published checkpoints. Every method raises OSError or `BadFile`."""

    @property
    def idle_read_s(self) -> float:
        """Returns how often it is read while no log moves; 0: in every round."""
        ...

    async def read(self) -> Notes:
        """Return everything that is published."""
        ...

    async def compare_and_set(self, moves: Mapping[str, Move]) -> frozenset[str]:
        """Make the moves whose `before` still stands, and return their origins.

        They are durable when it returns. If it raises, any of them may be made or not.
        """
        ...

    async def check(self) -> None:
        """Raise if checkpoints can't be read, or if nothing can be written."""
        ...


class File:
    """Keeps them in one file, which all servers of a database share."""

    idle_read_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def __str__(self) -> str:
        return str(self._path)

    async def read(self) -> Notes:
        return await asyncio.to_thread(read, self._path)

    async def compare_and_set(self, moves: Mapping[str, Move]) -> frozenset[str]:
        return await asyncio.to_thread(compare_and_set, self._path, moves)

    async def check(self) -> None:
        await asyncio.to_thread(self._check)

    def _check(self) -> None:
        read(self._path)
        files.check_writable(self._path.absolute().parent)


def read(path: Path) -> Notes:
    """Returns what is published. Raises `BadFile`, or OSError other than that there is no file
    yet."""
    try:
        files.check_trusted(path)
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise BadFile(f"{path} is no file of checkpoints: {error}") from error


def compare_and_set(path: Path, moves: Mapping[str, Move]) -> frozenset[str]:
    """Make the moves whose `before` still stands; gives their origins.

    They are on the disk when it returns. Raises OSError, and then any of them may be made or not.
    """
    with _locked(path):
        notes = read(path)
        made = {
            origin: move.after for origin, move in moves.items() if notes.get(origin) == move.before
        }
        if made:
            files.replace(path, msgspec.json.format(msgspec.json.encode(notes | made)))
    return frozenset(made)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A file of its own is locked, since the one that is replaced is not the one that replaces."""
    with files.opened_lock(path.with_name(f"{path.name}.lock")) as lock:
        _lock(lock.fileno())
        yield


def _lock(descriptor: int) -> None:
    """Raises TimeoutError where another server keeps it: it hangs, or its file system does."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("the file of checkpoints is locked by another server") from None
            time.sleep(LOCK_EVERY_S)

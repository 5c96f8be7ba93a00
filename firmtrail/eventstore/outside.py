"""What was last published of each log, kept outside the database: one file, changed by compare and
set.

A database that is rolled back takes its own checkpoints along; this file does not go with it. It
is JSON, an object of origin -> signed checkpoint. Any number of servers share it on one file
system: an OS lock (flock on `FILE.lock`) makes them change it one after another, and it is
replaced whole (temporary file, fsync, rename, fsync of the folder). Everything here blocks: call
it on a thread.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from firmtrail.eventstore import files

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


def read(path: Path) -> Notes:
    """What is published. Raises `BadFile`, or OSError other than that there is no file yet."""
    try:
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
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


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

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from firmtrail.eventstore import files

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
        return msgspec.json.decode(content, type=Notes)
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
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

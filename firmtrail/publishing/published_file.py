"""Keeps the published checkpoints in one file, which all servers of a database share.

The file is JSON: an object of origin -> signed checkpoint. Servers on one file system change it one
after another, under an OS lock (flock on `FILE.lock`), and replace it whole: temporary file, fsync,
rename, fsync of the folder.
"""

import asyncio
import contextlib
import fcntl
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import override

import msgspec

from firmtrail.database import files
from firmtrail.publishing.checkpoint_store import BadStore, NoteChange, Notes

LOCK_TIMEOUT_S = 5
LOCK_EVERY_S = 0.005


class CheckpointFile:
    """Implements `CheckpointStore` by a file. The methods `…_now` block; the others use a
    thread."""

    idle_read_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    @override
    def __str__(self) -> str:
        return str(self._path)

    async def read(self) -> Notes:
        return await asyncio.to_thread(self.read_now)

    async def compare_and_set(self, changes: Mapping[str, NoteChange]) -> frozenset[str]:
        return await asyncio.to_thread(self.compare_and_set_now, changes)

    async def check(self) -> None:
        await self.read()
        await asyncio.to_thread(files.check_writable, self._path.absolute().parent)

    def read_now(self) -> Notes:
        """Returns what is published; nothing where there is no file yet."""
        try:
            files.check_trusted(self._path)
            content = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return msgspec.json.decode(content, type=dict[str, str])
        except msgspec.MsgspecError as error:
            raise BadStore(f"{self._path} is not a file of checkpoints: {error}") from error

    def compare_and_set_now(self, changes: Mapping[str, NoteChange]) -> frozenset[str]:
        with self._locked():
            notes = self.read_now()
            made = {
                origin: change.after
                for origin, change in changes.items()
                if notes.get(origin) == change.before
            }
            if made:
                files.replace(self._path, msgspec.json.format(msgspec.json.encode(notes | made)))
        return frozenset(made)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Locks a file next to the checkpoints, since those are replaced and the lock is not."""
        with files.open_lock_file(self._path.with_name(f"{self._path.name}.lock")) as lock:
            _lock(lock.fileno())
            yield


def _lock(descriptor: int) -> None:
    """Raises TimeoutError where another server keeps the lock: it hangs, or its file system
    does."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("another server has locked the file of checkpoints") from None
            time.sleep(LOCK_EVERY_S)

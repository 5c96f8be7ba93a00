"""Which process may write a file? The one that holds the OS lock on `FILE.lock`.

The lock ends with its process, however that ends, and with the one that writes for it and has
inherited it.
"""

import fcntl
import os
from pathlib import Path
from typing import IO


class Locked(Exception):
    """Another process holds the file for writing."""


def take(path: Path) -> IO[str]:
    """Hold the file until what is returned is closed. Raises `Locked`."""
    lock = open(f"{path}.lock", "w", opener=_open_private)  # noqa: SIM115 (held until close)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Locked(f"{path} is open for writing in another process") from None
    return lock


def is_held(path: Path) -> bool:
    """Whether a process has the file open for writing."""
    try:
        take(path).close()
    except Locked:
        return True
    return False


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

"""Lets only one process write a file: the one that has the OS lock on `FILE.lock`.

The lock ends with its process, however that ends, and with the process that writes for it and has
inherited the lock.
"""

import fcntl
from pathlib import Path
from typing import IO

from firmtrail.database import files


class Locked(Exception):
    """Another process has the file open for writing."""


def acquire(path: Path) -> IO[bytes]:
    """Locks the file until the returned file is closed. Raises `Locked`, `files.NotOurs`."""
    lock = files.open_lock_file(path.with_name(f"{path.name}.lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Locked(f"{path} is open for writing in another process") from None
    return lock


def is_locked(path: Path) -> bool:
    """Returns whether a process has the file open for writing."""
    try:
        acquire(path).close()
    except Locked:
        return True
    return False

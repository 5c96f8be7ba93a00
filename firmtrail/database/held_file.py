"""Which process may write a file? The one that holds the OS lock on `FILE.lock`.

The lock ends with its process, however that ends, and with the one that writes for it and has
inherited it.
"""

import fcntl
from pathlib import Path
from typing import IO

from firmtrail.database import files


class Locked(Exception):
    """Another process holds the file for writing."""


def take(path: Path) -> IO[bytes]:
    """Lock the file until the returned file is closed. Raises `Locked`, `files.NotOurs`."""
    lock = files.opened_lock(path.with_name(f"{path.name}.lock"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Locked(f"{path} is open for writing in another process") from None
    return lock


def is_held(path: Path) -> bool:
    """Returns whether a process has the file open for writing."""
    try:
        take(path).close()
    except Locked:
        return True
    return False

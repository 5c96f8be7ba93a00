"""Reads and raises the number of file descriptors that a process may have (getrlimit(2)).

A connection takes one descriptor, and so does every file and every connection to a database.
"""

import os
import resource
from pathlib import Path

RESERVE_MAX = 1024
"""Reserves descriptors for files, databases and connections that are about to be refused.
If the limit is low, a quarter of the descriptors is reserved."""
CONNECTIONS_MAX = 10_000

_FOLDERS = (Path("/proc/self/fd"), Path("/dev/fd"))


def limit() -> int:
    """Returns how many descriptors this process may have."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_limit() -> int:
    """Raises the soft limit to the hard one; returns the limit that is then in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def open_count() -> int:
    """Returns how many descriptors this process has open; 0 on a system that does not list them."""
    for folder in _FOLDERS:
        if folder.is_dir():
            return len(os.listdir(folder))  # noqa: PTH208 (only their number is wanted)
    return 0


def connections_max(wanted: int | None = None) -> int:
    """Returns how many connections fit below the limit with its reserve, at most `wanted`."""
    allowed = limit()
    fitting = allowed - min(RESERVE_MAX, max(allowed // 4, 64))
    return max(1, min(wanted or CONNECTIONS_MAX, fitting))

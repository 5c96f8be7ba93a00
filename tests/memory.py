"""Where do the files of a test run lie? In memory, where that is possible.

A run makes some hundred thousand small files, most of them PostgreSQL's, and syncs them again and
again: on a disk that takes as long as all that is tested. No test asks whether a disk keeps what it
has to keep: a process that is killed leaves the same in memory as on a disk.
"""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 (all that is made in it has a name of its own)
FREE_BYTES_MIN = 2 * 1024**3
"""Several times what a run has there at once."""


def keep_temporary_files() -> None:
    """Make temporary files of this process and of those it starts in memory.

    On a disk they stay where TMPDIR says so, and where there is no such memory: too little (64 MiB
    in a container of Docker's), or none to run PostgreSQL's programs from.
    """
    if "TMPDIR" not in os.environ and _is_fit():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it asks again


def _is_fit() -> bool:
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return False
    can_run = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return can_run and shutil.disk_usage(MEMORY).free >= FREE_BYTES_MIN

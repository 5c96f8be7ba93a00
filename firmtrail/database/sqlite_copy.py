"""A copy of a database file, while a process writes to it.

One connection reads the file, opened `mode=ro`: it can neither commit nor checkpoint, so SQLite's
WAL-reset bug (sqlite.py) can't strike, whoever writes meanwhile. It holds one read transaction from
the first page to the last: the copy is the database at one moment. Until the end the WAL keeps what
was written since, so it grows by as much.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from firmtrail.database.database import Unavailable

STEP_PAGES = 2_000

type Copied = Callable[[int, int], None]
"""Told how many pages are left, of how many."""


def copy(source: Path, target: Path, copied: Copied) -> None:
    """Make `target`, which is not there yet; it is whole and on the disk when this returns.

    Blocks. Raises `Unavailable` where the source is no database or can't be read, or the disk is
    full; then `target` is not a database.
    """
    target.touch(mode=0o600, exist_ok=False)
    read_only = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with (
            contextlib.closing(sqlite3.connect(read_only, uri=True)) as reader,
            contextlib.closing(sqlite3.connect(target)) as writer,
        ):
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            reader.backup(writer, pages=STEP_PAGES, progress=lambda _, *pages: copied(*pages))
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"{source} to {target}: {error}") from error

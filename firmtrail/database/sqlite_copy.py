"""Copies a database file while a process writes to it.

One connection reads the file, opened `mode=ro`: it can neither commit nor checkpoint, so SQLite's
WAL-reset bug (sqlite.py) can't occur, whichever process writes meanwhile. One read transaction
lasts from the first page to the last, so the copy is the database at one moment. Until the end the
WAL keeps everything that was written since, and grows by as much.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from firmtrail.database.database import Unavailable

STEP_PAGES = 2_000

type Copied = Callable[[int, int], None]
"""Called with the number of pages that are left, and of all pages."""


def copy(source: Path, target: Path, copied: Copied) -> None:
    """Creates `target`, which must not exist; it is complete and on the disk when this returns.
    Blocks. Raises `Unavailable`; then `target` is not a database."""
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

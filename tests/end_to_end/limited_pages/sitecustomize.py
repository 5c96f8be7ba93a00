"""Lets a test limit the pages of the database that the process for writing has open.

Python imports this module first in each process that has its folder in PYTHONPATH. A limit of pages
needs no file system of its own, and is only in force for the connection that sets it.
"""

import signal
import sqlite3
import sys
from typing import Any

LEFT_PAGES = 48
"""Of 4096 bytes: less than a thousand reports or devices need."""
PAGES_MAX = 4_294_967_294
TAKE, GIVE_BACK = signal.SIGRTMIN + 1, signal.SIGRTMIN + 2
"""The signals that leave LEFT_PAGES to the process that writes, and that end the limit."""


def _limit_on_signal() -> None:
    from firmtrail.database import sqlite_connection  # noqa: PLC0415 (only where it is used)

    connect = sqlite_connection.connect
    opened: list[sqlite3.Connection] = []

    def limited(*args: Any, **named: Any) -> sqlite3.Connection:
        opened.append(connect(*args, **named))
        return opened[-1]

    def take(*_: object) -> None:
        [[count]] = opened[0].execute("PRAGMA page_count").fetchall()
        opened[0].execute(f"PRAGMA max_page_count = {count + LEFT_PAGES}")

    def give_back(*_: object) -> None:
        opened[0].execute(f"PRAGMA max_page_count = {PAGES_MAX}")

    sqlite_connection.connect = limited
    signal.signal(TAKE, take)
    signal.signal(GIVE_BACK, give_back)


if "firmtrail.database.sqlite_process" in sys.orig_argv:
    _limit_on_signal()

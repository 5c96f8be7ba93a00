"""Runs the asynchronous work of a command, on uvloop where it is available."""

import sys

from firmtrail.database import collector

try:
    from uvloop import run
except ImportError:  # Windows
    from asyncio import run


__all__ = ["run", "tune_for_serving"]

SWITCH_INTERVAL_S = 0.00005
"""How long a thread that wants the GIL waits until the event loop gives it up. The SQLite thread
waits for it at every hand-over, and Python's default of 5 ms would be most of a commit's time."""


def tune_for_serving() -> None:
    """Tunes this process for an event loop next to a database thread; call it before serving."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    collector.collect_rarely()

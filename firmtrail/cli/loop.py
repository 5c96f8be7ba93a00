"""How a command runs what is asynchronous: on uvloop where there is one."""

import sys
from collections.abc import Coroutine
from typing import Any

from firmtrail.database import collector

try:
    from uvloop import run as _run
except ImportError:  # Windows
    from asyncio import run as _run


SWITCH_INTERVAL_S = 0.00005
"""A thread that wants the GIL waits so long for the event loop to give it up. The SQLite thread
waits at every hand-over, and Python's own 5 ms would be most of a commit's time."""


def tune_for_serving() -> None:
    """Set up this process for an event loop beside a database thread; before it serves."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    collector.collect_rarely()


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, and give the result."""
    return _run(work)

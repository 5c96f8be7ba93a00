"""How a command runs what is asynchronous: on uvloop where there is one."""

import gc
import sys
from collections.abc import Coroutine
from typing import Any

try:
    from uvloop import run as _run
except ImportError:  # Windows
    from asyncio import run as _run


SWITCH_INTERVAL_S = 0.00005
"""A thread that wants the GIL waits so long for the event loop to give it up. The SQLite thread
waits at every hand-over, and Python's own 5 ms would be most of a commit's time."""

GC_THRESHOLD_OBJECTS = 50_000
"""A batch makes thousands of objects that live until its commit. None is in a cycle, and looking
for cycles among them, every 2 000 objects by default, took a fifth of the write path."""


def tune_for_serving() -> None:
    """Set up this process for an event loop beside a database thread; before it serves."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, and give the result."""
    return _run(work)

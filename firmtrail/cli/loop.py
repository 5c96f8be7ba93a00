"""How a command runs what is asynchronous: on uvloop where there is one."""

from collections.abc import Coroutine
from typing import Any

try:
    from uvloop import run as _run
except ImportError:  # Windows
    from asyncio import run as _run


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, and give the result."""
    return _run(work)

"""Starts work that several callers wait for by `asyncio.shield`, each of which may leave."""

import asyncio
from collections.abc import Coroutine


def begin[Result](work: Coroutine[None, None, Result]) -> asyncio.Task[Result]:
    """Returns the task of this work. Its failure reaches the callers that still wait; if all have
    left, as when a server ends, asyncio does not report it as an exception that nobody took."""
    task = asyncio.create_task(work)
    task.add_done_callback(_take)
    return task


def _take(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()

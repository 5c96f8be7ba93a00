"""Starts work that several callers wait for, each of which may leave without ending it."""

import asyncio
from collections.abc import Awaitable, Callable

from firmtrail.database.database import Unavailable


def begin[Result](work: Callable[[], Awaitable[Result]]) -> asyncio.Task[Result]:
    """Returns the task of this work, to wait for by `result_of`. Its failure reaches the callers
    that still wait. If all have left, asyncio reports it as an error that nobody took, unless it is
    `Unavailable`, as when a server ends."""
    return asyncio.create_task(_watched(work))


async def result_of[Result](task: asyncio.Task[Result]) -> Result:
    """Returns the result of this task, or raises its error, and `Unavailable` if the task was
    cancelled. A caller that is cancelled leaves the task to the others. (The `asyncio.shield` of
    Python 3.14 then reports every error of the task, also one that another caller receives.)"""
    await asyncio.wait((task,))
    if task.cancelled():
        raise Unavailable("The server stops. Send the request again.")
    return task.result()


async def _watched[Result](work: Callable[[], Awaitable[Result]]) -> Result:
    try:
        return await work()
    except Unavailable:
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(asyncio.Task.exception)
        raise

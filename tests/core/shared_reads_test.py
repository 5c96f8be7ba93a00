"""Open pages share their reads for a moment, and never a failure."""

import asyncio
import gc

import pytest

from firmtrail.http.shared_reads import SharedReads


async def test_reads_of_one_moment_are_one_read() -> None:
    shared, reads = SharedReads(), []

    async def read() -> int:
        reads.append(1)
        await asyncio.sleep(0)
        return len(reads)

    assert await asyncio.gather(*(shared.get("a", read) for _ in range(100))) == [1] * 100
    assert await shared.get("a", read) == 1
    assert await shared.get("b", read) == 2


async def test_a_failed_read_is_not_kept() -> None:
    shared = SharedReads()

    async def fail() -> int:
        raise ValueError

    async def read() -> int:
        return 7

    with pytest.raises(ValueError):  # noqa: PT011 (raised above)
        await shared.get("a", fail)
    assert await shared.get("a", read) == 7


async def test_a_caller_that_leaves_does_not_end_the_read_of_others() -> None:
    shared, is_due = SharedReads(), asyncio.Event()

    async def read() -> int:
        await is_due.wait()
        return 7

    first, second = (asyncio.create_task(shared.get("a", read)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    is_due.set()
    assert await second == 7


async def test_a_failure_that_nobody_waits_for_any_more_is_not_reported() -> None:
    shared, is_due, reported = SharedReads(), asyncio.Event(), []

    async def fail() -> int:
        await is_due.wait()
        raise ValueError

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context))
    try:
        caller = asyncio.create_task(shared.get("a", fail))
        await asyncio.sleep(0)
        caller.cancel()
        is_due.set()
        await asyncio.wait([caller])
        await asyncio.sleep(0)
        del shared, caller
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert reported == []

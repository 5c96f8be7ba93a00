"""Tests that open pages share their reads for a moment, and never a failure."""

import asyncio
import gc

import pytest

from firmtrail.database.database import Unavailable
from firmtrail.http.shared_reads import SharedReads
from tests.patience import PATIENCE_S


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


async def test_a_read_that_takes_longer_than_its_value_is_kept_is_read_once() -> None:
    shared, is_due, reads = SharedReads(kept_s=0.01), asyncio.Event(), []

    async def read() -> int:
        reads.append(1)
        await is_due.wait()
        return len(reads)

    callers = []
    for _ in range(4):
        callers.append(asyncio.create_task(shared.get("a", read)))
        await asyncio.sleep(0.02)
    is_due.set()
    assert await asyncio.gather(*callers) == [1] * 4
    await asyncio.sleep(0.02)
    assert await shared.get("a", read) == 2


async def test_closing_ends_the_reads_that_are_in_progress() -> None:
    shared, is_due = SharedReads(kept_s=0.01), asyncio.Event()

    async def read() -> bool:
        return await is_due.wait()

    caller = asyncio.create_task(shared.get("a", read))
    await asyncio.sleep(0.02)
    await shared.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(caller, PATIENCE_S)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left


@pytest.mark.parametrize(
    ("failure", "are_reported"), [(Unavailable("closed"), False), (ValueError("a bug"), True)]
)
async def test_a_failure_that_nobody_waits_for_is_reported_if_it_is_a_bug(
    failure: Exception, are_reported: bool
) -> None:
    reported = await _reported(failure, leave=True)
    assert reported == ([failure] if are_reported else [])


async def test_a_failure_that_a_caller_waits_for_reaches_only_the_caller() -> None:
    assert await _reported(ValueError("a bug"), leave=False) == []


async def _reported(failure: Exception, *, leave: bool) -> list[object]:
    """Returns the failures that reach the handler of the event loop, if one of two callers leaves
    before the read fails, and also the other one or not."""
    shared, is_due, reported = SharedReads(), asyncio.Event(), list[object]()

    async def fail() -> int:
        await is_due.wait()
        raise failure

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    try:
        callers = [asyncio.create_task(shared.get("a", fail)) for _ in range(2)]
        await asyncio.sleep(0)
        for caller in callers if leave else callers[:1]:
            caller.cancel()
        await asyncio.sleep(0)
        is_due.set()
        results = await asyncio.gather(*callers, return_exceptions=True)
        for _ in range(5):  # the read ends, and its task
            await asyncio.sleep(0)
        del shared, callers, caller
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert isinstance(results[0], asyncio.CancelledError)
    assert (results[1] is failure) is not leave
    return reported

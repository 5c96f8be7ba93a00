"""A follower handles every event at least once and in order, whatever ends it in between."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import NamedTuple

import pytest

from firmtrail.database.database import Database, Unavailable
from firmtrail.eventstore import log
from firmtrail.followers.following import Following
from firmtrail.recording.recorder import Recorder
from tests.fleet import receipts, register, report
from tests.patience import PATIENCE_S

STEP_EVENTS = 3


class Stretch(NamedTuple):
    """The events that wait for the follower in one step."""

    start: int
    stop: int


class Copier:
    """Copies each entry to a list, as a webhook would send it. Its position is a member here; a
    real follower stores its own."""

    name = "copier"
    interval_s = 0.01
    idle_s = 30.0
    retry_s_max = 0.04
    passing_errors: tuple[type[Exception], ...] = (Unavailable,)

    def __init__(self, db: Database, log_id: int) -> None:
        self.copied: list[int] = []
        self.steps: list[int] = []
        self.position = 0
        self.error: Exception | None = None
        """Raised between the work and the move of the position."""
        self._db = db
        self._log_id = log_id

    async def pending(self) -> AsyncGenerator[Stretch]:
        size = (await log.head(self._db, self._log_id)).size
        while self.position < size:
            yield Stretch(self.position, min(self.position + STEP_EVENTS, size))

    async def follow(self, work: Stretch) -> None:
        async for page in log.read(self._db, self._log_id, *work):
            self.copied += [position for position, _, _ in page]
        self.steps.append(work.stop - work.start)
        if self.error is not None:
            raise self.error
        self.position = work.stop


@pytest.fixture
def copier(db: Database, log_id: int) -> Copier:
    return Copier(db, log_id)


async def grow(recorder: Recorder, log_id: int, events: int) -> None:
    await receipts(recorder, log_id, *(report(f"1.0.{n}") for n in range(events)))


@contextlib.asynccontextmanager
async def running(following: Following[Stretch]) -> AsyncGenerator[asyncio.Task[None]]:
    task = asyncio.create_task(following.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_copied(copier: Copier, events: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while copier.position < events:
            await asyncio.sleep(0.005)


async def test_a_follower_catches_up_in_bounded_steps_and_in_order(
    copier: Copier, recorder: Recorder, log_id: int
) -> None:
    await register(recorder, log_id, "d1")
    await grow(recorder, log_id, 7)
    await Following(copier).catch_up()
    assert copier.copied == list(range(8))
    assert copier.steps == [3, 3, 2]
    await Following(copier).catch_up()
    assert copier.steps == [3, 3, 2], "nothing is left"


async def test_events_come_again_if_the_position_did_not_move(
    copier: Copier, recorder: Recorder, log_id: int
) -> None:
    await register(recorder, log_id, "d1")
    await grow(recorder, log_id, 4)
    copier.error = Unavailable("away")
    following = Following(copier)
    await following.round()
    problem = following.problem
    assert problem == "away"
    copier.error = None
    await following.round()
    problem = following.problem
    assert problem is None
    assert copier.copied == [0, 1, 2, 0, 1, 2, 3, 4]


async def test_a_failing_follower_tries_again_until_it_succeeds(
    copier: Copier, recorder: Recorder, log_id: int
) -> None:
    await register(recorder, log_id, "d1")
    copier.error = Unavailable("away")
    async with running(Following(copier)) as task:
        async with asyncio.timeout(PATIENCE_S):
            while len(copier.steps) < 4:
                await asyncio.sleep(0.005)
        copier.error = None
        await until_copied(copier, 1)
        assert not task.done()


async def test_an_unexpected_error_ends_the_task(
    copier: Copier, recorder: Recorder, log_id: int
) -> None:
    await register(recorder, log_id, "d1")
    copier.error = ZeroDivisionError("a bug")
    async with running(Following(copier)) as task, asyncio.timeout(PATIENCE_S):
        with pytest.raises(ZeroDivisionError):
            await task


async def test_a_commit_wakes_an_idle_follower(
    copier: Copier, recorder: Recorder, log_id: int
) -> None:
    following = Following(copier)
    recorder.on_commit.append(following.wake)
    async with running(following):
        async with asyncio.timeout(PATIENCE_S):
            await following.next_round().wait()
        await register(recorder, log_id, "d1")
        await until_copied(copier, 1)  # long before `idle_s`


async def test_a_follower_that_is_never_woken_looks_for_itself(
    copier: Copier, recorder: Recorder, log_id: int
) -> None:
    copier.idle_s = 0.05
    async with running(Following(copier)):
        await register(recorder, log_id, "d1")
        await until_copied(copier, 1)

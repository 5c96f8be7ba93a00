"""Keeps a follower up with the logs: the contract, and the loop that runs one follower.

A follower handles every event at least once and each log's events in their order. It keeps its own
position and moves it after its work, so a crash between the two repeats that work and loses none.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Protocol

import structlog

_log = structlog.get_logger("firmtrail.followers")


class Follower[Work](Protocol):
    """Handles events after they were committed. `Work` says which events wait for it: of which
    logs, from its own position to the end."""

    name: str
    """Names the follower's task in /readyz, and its lines in the server's log."""
    interval_s: float
    """The least time between two rounds, so the most that a burst of appends costs."""
    idle_s: float
    """The most time between two rounds: how late events are seen that another server appended."""
    retry_s_max: float
    """The longest pause after a failed round. Pauses double from `interval_s` up to this."""
    passing_errors: tuple[type[Exception], ...]
    """The errors that a later round may not meet. Any other is a bug, and ends the task."""

    def pending(self) -> AsyncGenerator[Work]:
        """Yields what the follower has not followed, in bounded steps; nothing if it is up to date.
        Reads the follower's own position, so it resumes after a restart."""

    async def follow(self, work: Work) -> None:
        """Handles these events, then moves the follower's position past them. The same events come
        again where a crash or an error kept the position from moving."""


class Following[Work]:
    """Runs one follower, until `run` is cancelled."""

    def __init__(self, follower: Follower[Work]) -> None:
        self.follower = follower
        self.problem: str | None = None
        """Why the last round failed; None: it succeeded."""
        self.succeeded_at_s: float | None = None
        """The time of the last round that succeeded; None: none did."""
        self._appended = asyncio.Event()
        self._round_over = asyncio.Event()

    def wake(self) -> None:
        """Begins the next round as soon as `interval_s` allows: something was appended."""
        self._appended.set()

    async def run(self) -> None:
        """Runs rounds for ever. The task's death, by an unexpected error, shows in /readyz."""
        retry_s = 0.0
        while True:
            self._appended.clear()
            await self.round()
            if self.problem is None:
                retry_s = 0.0
                await self._pause()
            else:
                retry_s = min(retry_s * 2 or self.follower.interval_s, self.follower.retry_s_max)
                await asyncio.sleep(retry_s)

    async def _pause(self) -> None:
        await asyncio.sleep(self.follower.interval_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.follower.idle_s - self.follower.interval_s):
                await self._appended.wait()

    async def round(self) -> None:
        """Catches up once; keeps in `problem` the reason that prevents it."""
        try:
            await self.catch_up()
        except self.follower.passing_errors as error:
            if self.problem is None:
                _log.warning(
                    "a follower can't continue and tries again",
                    follower=self.follower.name,
                    reason=str(error),
                )
            self.problem = str(error)
        else:
            self.problem = None
            self.succeeded_at_s = time.time()
        self._round_over.set()
        self._round_over = asyncio.Event()

    async def catch_up(self) -> None:
        """Follows, step by step, all that was appended before. Raises what the follower raises."""
        async with contextlib.aclosing(self.follower.pending()) as pending:
            async for work in pending:
                await self.follower.follow(work)

    def next_round(self) -> asyncio.Event:
        """Returns an event that is set when the round that runs now, or the next one, is over."""
        return self._round_over

"""Provides what every simulation needs: shared work, progress bars, and the comparison of
everything recorded about the devices with what they sent and received.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import batched
from random import Random
from typing import NamedTuple

from rich.progress import Progress

from firmtrail.simulate import checks
from firmtrail.simulate.client import CONNECTIONS, REGISTER_DEVICES, Client
from firmtrail.simulate.fleet import SimulatedDevice

DRAW_EVERY = 100
HISTORIES_MAX = 20_000
"""The most histories that are compared; everything else is compared for all devices."""

type AdvanceBar = Callable[[int], None]


class Plan(NamedTuple):
    """Says what to simulate."""

    devices: int
    rate: int
    duration_s: int | None
    fail_percent: int
    """The percentage of a steered fleet's installs that fail."""
    seed: str


class Checked(NamedTuple):
    """Counts what was compared."""

    histories: int
    events: int


def bar(progress: Progress, title: str, total: int | None) -> AdvanceBar:
    """Adds a progress bar, and returns the function that advances it. The bar is not drawn at every
    step: drawing costs more than a request."""
    shown = progress.add_task(title, total=total)
    done = waiting = 0

    def advance(steps: int) -> None:
        nonlocal done, waiting
        done += steps
        waiting += steps
        if waiting >= DRAW_EVERY or done == total:
            progress.advance(shown, waiting)
            waiting = 0

    return advance


async def register(
    client: Client, devices: Sequence[SimulatedDevice], model: str, advance: AdvanceBar
) -> None:
    for some in batched(devices, REGISTER_DEVICES):
        await client.register(some, model)
        advance(len(some))


async def by_many(work: Callable[[], Awaitable[None]]) -> None:
    """Runs workers that share the work; the first worker that fails ends all of them."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())  # type: ignore[arg-type] # a coroutine
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed


def counted[Item](items: Iterable[Item], advance: AdvanceBar) -> Iterator[Item]:
    for item in items:
        advance(1)
        yield item


def now_ms() -> int:
    return int(time.time() * 1000)


async def check(
    client: Client,
    devices: Sequence[SimulatedDevice],
    *,
    model: str,
    start: int,
    seed: str,
    progress: Progress,
) -> Checked:
    """Compares histories, states, counts by version, and the log from `start` on."""
    chosen = Random(seed).sample(devices, min(HISTORIES_MAX, len(devices)))  # noqa: S311 (a play)
    remaining = counted(chosen, bar(progress, "Checking", len(chosen)))
    await by_many(lambda: checks.histories(client, remaining))
    await checks.states(client, devices, model)
    await checks.versions(client, devices, model)
    return Checked(len(chosen), await checks.log(client, devices, start))

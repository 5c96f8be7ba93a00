"""What every play of a simulated fleet is made of: work that many share, bars that show it, and the
comparison of all that was recorded of its devices with what was sent and received.
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
from firmtrail.simulate.fleet import Device

SHOWN_EVERY = 100
HISTORIES_MAX = 20_000
"""Of more devices, so many histories are read; everything else is read of all."""

type Advance = Callable[[int], None]


class Plan(NamedTuple):
    """What to play."""

    devices: int
    rate: int
    duration_s: int | None
    fail_percent: int
    """Of the installs of a steered fleet."""
    seed: str


class Checked(NamedTuple):
    """How much was compared."""

    histories: int
    events: int


def bar(progress: Progress, title: str, total: int | None) -> Advance:
    """What advances a new bar; it is drawn now and then, as drawing costs more than a request."""
    shown = progress.add_task(title, total=total)
    done = waiting = 0

    def advance(steps: int) -> None:
        nonlocal done, waiting
        done += steps
        waiting += steps
        if waiting >= SHOWN_EVERY or done == total:
            progress.advance(shown, waiting)
            waiting = 0

    return advance


async def register(client: Client, devices: Sequence[Device], model: str, advance: Advance) -> None:
    for some in batched(devices, REGISTER_DEVICES):
        await client.register(some, model)
        advance(len(some))


async def by_many(work: Callable[[], Awaitable[None]]) -> None:
    """The workers share what there is to do; the first that fails ends all."""
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())  # type: ignore[arg-type] # a coroutine


def counted[Item](items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    for item in items:
        advance(1)
        yield item


def now_ms() -> int:
    return int(time.time() * 1000)


async def check(
    client: Client,
    devices: Sequence[Device],
    *,
    model: str,
    start: int,
    seed: str,
    progress: Progress,
) -> Checked:
    """Compare histories, states, counts by version, and the log from `start` on."""
    chosen = Random(seed).sample(devices, min(HISTORIES_MAX, len(devices)))  # noqa: S311 (a play)
    remaining = counted(chosen, bar(progress, "Checking", len(chosen)))
    await by_many(lambda: checks.histories(client, remaining))
    await checks.states(client, devices, model)
    await checks.versions(client, devices, model)
    return Checked(len(chosen), await checks.log(client, devices, start))

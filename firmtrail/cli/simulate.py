"""`firmtrail simulate`: a fleet that lives, and whether the service recorded its life as it was."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import batched
from random import Random
from typing import Any, NamedTuple

import click
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from firmtrail.cli import fleet, fleet_check, loop, output
from firmtrail.cli.fleet import Device, Post
from firmtrail.cli.fleet_client import CONNECTIONS, REGISTER_DEVICES, Client, Pacer, Tally

REQUEST_TIMEOUT_S = 30
SHOWN_EVERY = 100
HISTORIES_MAX = 20_000
"""Of more devices, so many histories are read; everything else is read of all."""

type Advance = Callable[[int], None]


class Plan(NamedTuple):
    """What to play."""

    devices: int
    rate: int
    duration_s: int | None
    seed: str


@click.command()
@click.option("--url", required=True, help="Where the service is: http://127.0.0.1:8080")
@click.option("--token", required=True, help="An API token of an admin of the project.")
@click.option("--project", required=True, help="The project's name.")
@click.option("--devices", default=1000, type=click.IntRange(1, 10_000_000))
@click.option("--rate", default=1000, type=click.IntRange(1), help="Reports a second, at most.")
@click.option("--duration", type=click.IntRange(1), help="Seconds to report for.")
@click.option("--seed", help="Plays the same fleet again, under new names.")
@output.json_option
@click.pass_context
def simulate(
    ctx: click.Context,
    /,
    *,
    url: str,
    token: str,
    project: str,
    json: bool,
    devices: int,
    rate: int,
    duration: int | None,
    seed: str | None,
) -> None:
    """Play a fleet against a service, and check everything that it recorded.

    Each device has its own secret. Devices install, update, fail, fall back, send again what was
    not answered, or twice at once, and come back after weeks to upload what happened meanwhile.
    In the end the service's devices, histories, counts and log are held against what was sent and
    received. Exit code 1 if anything differs. Without --duration, every device reports about twice.
    """
    plan = Plan(devices, rate, duration, seed or secrets.token_hex(4))
    tally, summary = loop.run(_simulate(url, project, token, plan))
    if json:
        output.show_json(summary)
    else:
        rows = [{"": name, "count": value} for name, value in summary.items()]
        output.show_table(rows, {})
    for difference in tally.shown:
        output.note(difference)
    if tally.differences:
        ctx.exit(output.FOUND_WRONG)


async def _simulate(url: str, project: str, token: str, plan: Plan) -> tuple[Tally, dict[str, Any]]:
    async with ClientSession(
        connector=TCPConnector(limit=CONNECTIONS),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=REQUEST_TIMEOUT_S),
    ) as session:
        client = Client(session, url, project, token)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as progress:
            return client.tally, await _run(client, plan, progress)


async def _run(client: Client, plan: Plan, progress: Progress) -> dict[str, Any]:
    name = f"sim-{secrets.token_hex(4)}"
    devices = fleet.devices(name, plan.devices)
    start = await fleet_check.log_size(client)
    await _register(client, devices, name, _bar(progress, "Registering", plan.devices))
    began_s = time.monotonic()
    await _report(client, devices, plan, progress)
    seconds = time.monotonic() - began_s
    chosen = Random(plan.seed).sample(devices, min(HISTORIES_MAX, plan.devices))  # noqa: S311 (the same)
    await _check_histories(client, chosen, _bar(progress, "Checking", len(chosen)))
    await fleet_check.states(client, devices, name)
    await fleet_check.versions(client, devices, name)
    events = await fleet_check.log(client, devices, start)
    tally = client.tally
    return {
        "devices": plan.devices,
        "reports recorded": tally.recorded,
        "duplicates": tally.duplicates,
        "reports a second": round((tally.recorded + tally.duplicates) / seconds),
        "requests": tally.requests,
        "tried again": tally.retries,
        "events checked": events,
        "devices checked": plan.devices,
        "histories checked": len(chosen),
        "differences": tally.differences,
        "seed": plan.seed,
    }


def _bar(progress: Progress, title: str, total: int | None) -> Advance:
    """What advances a new bar; it is drawn now and then, as drawing costs more than a request."""
    bar = progress.add_task(title, total=total)
    waiting = 0

    def advance(steps: int) -> None:
        nonlocal waiting
        waiting += steps
        if waiting >= SHOWN_EVERY:
            progress.advance(bar, waiting)
            waiting = 0

    return advance


async def _register(
    client: Client, devices: Sequence[Device], model: str, advance: Advance
) -> None:
    for some in batched(devices, REGISTER_DEVICES):
        await client.register(some, model)
        advance(len(some))


async def _report(
    client: Client, devices: Sequence[Device], plan: Plan, progress: Progress
) -> None:
    """Rounds in which a device acts once at most, so that its requests follow each other."""
    random = Random(plan.seed)  # noqa: S311 (a play, not a secret)
    pacer = Pacer(plan.rate)
    end_s = time.monotonic() + plan.duration_s if plan.duration_s else None
    advance = _bar(progress, "Reporting", None)
    acts = fleet.first_installs(devices, random, _now_ms)
    rounds = 0
    while rounds < fleet.ROUNDS if end_s is None else time.monotonic() < end_s:
        await _by_many(_worker(client, pacer, _until(end_s, acts), advance))
        acts = fleet.later_acts(devices, random, _now_ms)
        rounds += 1


def _now_ms() -> int:
    return int(time.time() * 1000)


def _until(end_s: float | None, posts: Iterator[Post]) -> Iterator[Post]:
    return (post for post in posts if end_s is None or time.monotonic() < end_s)


def _worker(
    client: Client, pacer: Pacer, posts: Iterator[Post], advance: Advance
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for post in posts:
            await pacer.wait(len(post.reports) * (1 + post.is_twice))
            await client.play(post)
            advance(1)

    return work


async def _by_many(work: Callable[[], Awaitable[None]]) -> None:
    """The workers share what there is to do; the first that fails ends all."""
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(work())  # type: ignore[arg-type] # a coroutine


async def _check_histories(client: Client, devices: Sequence[Device], advance: Advance) -> None:
    remaining = _counted(devices, advance)
    await _by_many(lambda: fleet_check.histories(client, remaining))


def _counted(devices: Sequence[Device], advance: Advance) -> Iterator[Device]:
    for device in devices:
        advance(1)
        yield device

"""`firmtrail simulate`: simulates a fleet, and checks whether the service recorded it correctly."""

import functools
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random
from typing import Any

import click
from aiohttp import (
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    InvalidURL,
    TCPConnector,
)
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from firmtrail.cli import credentials, loop, output, reasons
from firmtrail.cli.numbers import Whole
from firmtrail.exits import CouldNotRun
from firmtrail.simulate import (
    checks,
    fleet,
    foreign_play,
    hawkbit,
    memfault,
    mender,
    steered_play,
    workload,
)
from firmtrail.simulate.client import CONNECTIONS, Client, Pacer, Tally
from firmtrail.simulate.fleet import Post, SimulatedDevice
from firmtrail.simulate.workload import AdvanceBar, Plan

REQUEST_TIMEOUT_S = 30

type Play = Callable[[Client, Plan, Progress], Awaitable[dict[str, Any]]]
"""Simulates, compares, and returns the summary."""

type Speaking = Callable[[Client], Awaitable[foreign_play.Speech]]
"""Returns what speaks a protocol in a project."""

SPEECHES: dict[str, Speaking] = {
    "hawkbit": hawkbit.speech,
    "memfault": memfault.speech,
    "mender": mender.speech,
}

_token = functools.partial(
    credentials.token_options,
    envvar="FIRMTRAIL_TOKEN",
    help="An API token of an admin of the project.",
)


@click.command()
@click.option(
    "--url",
    required=True,
    envvar="FIRMTRAIL_URL",
    help="The server's address, such as http://127.0.0.1:8080.",
)
@click.option("--project", required=True, help="The project's name.")
@click.option("--devices", default=1000, type=Whole(1, 10_000_000), help="The number of devices.")
@click.option(
    "--rate",
    default=1000,
    type=Whole(1),
    help="The most reports per second; with --steer, the most requests per second.",
)
@click.option("--duration", type=Whole(1), help="How many seconds the devices report.")
@click.option(
    "--steer", "is_steered", is_flag=True, help="Play a failing rollout and its rollback."
)
@click.option(
    "--fail-percent",
    default=8,
    type=Whole(2, 100),
    help="With --steer: the percentage of installs that fail. The rollout pauses at half of it.",
)
@click.option(
    "--protocol",
    type=click.Choice(list(SPEECHES)),
    help="Play a fleet of clients of this protocol instead of Firmtrail's own.",
)
@click.option("--seed", help="A text that chooses what happens; the same text repeats it.")
@output.json_option
@_token
@click.pass_context
def simulate(
    ctx: click.Context,
    /,
    *,
    url: str,
    token: str | None,
    project: str,
    devices: int,
    rate: int,
    duration: int | None,
    is_steered: bool,
    fail_percent: int,
    protocol: str | None,
    seed: str | None,
    json: bool,
) -> None:
    """Simulate a fleet against a service, and check everything that the service recorded.

    Each device has its own secret. Devices install, update, fail, fall back, repeat reports that
    were not answered, send reports twice in parallel, and come back after weeks to upload what
    happened meanwhile. At the end the service's devices, histories, counts and log are compared
    with what was sent and received. The exit code is 1 if anything differs. Without --duration,
    every device reports about twice.

    With --steer, devices check in and follow the answers. 1.1.0 is rolled out, first to 10 percent,
    then to 50, where so many installs fail that the rollout must pause itself; then it is rolled
    back. Each answer, the report at which the rollout pauses, and all counts are checked too.

    With --protocol, the devices are clients of another protocol, and do what those can: 1.1.0 is
    rolled out to all of them, and rolled back. Idle polls must record nothing.
    """
    if token is None:
        raise click.UsageError(
            "The simulation needs a token of an admin of the project: give --token-file or "
            "FIRMTRAIL_TOKEN."
        )
    if is_steered and (duration is not None or devices < steered_play.DEVICES_MIN):
        least = f"at least {steered_play.DEVICES_MIN} devices"
        raise click.UsageError(f"--steer needs {least} and excludes --duration.")
    if protocol is not None and (is_steered or duration is not None):
        raise click.UsageError("--protocol excludes --steer and --duration.")
    plan = Plan(devices, rate, duration, fail_percent, seed or secrets.token_hex(4))
    play = steered_play.play if is_steered else _report
    if protocol is not None:
        play = functools.partial(_speak, SPEECHES[protocol])
    tally, summary = loop.run(_simulate(play, plan, url=url, project=project, token=token))
    if json:
        output.show_json(summary)
    else:
        output.show_members(summary)
    for difference in tally.shown:
        click.echo(difference, err=json)
    if tally.differences:
        ctx.exit(output.FOUND_WRONG)


async def _simulate(
    play: Play, plan: Plan, *, url: str, project: str, token: str
) -> tuple[Tally, dict[str, Any]]:
    async with ClientSession(
        connector=TCPConnector(limit=CONNECTIONS),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=REQUEST_TIMEOUT_S),
    ) as session:
        await _check_reachable(session, url)
        client = Client(session, url, project, token)
        with output.progress(MofNCompleteColumn(), TimeElapsedColumn()) as progress:
            return client.tally, await play(client, plan, progress)


async def _check_reachable(session: ClientSession, url: str) -> None:
    """Fails early for a mistyped address; the fleet itself waits for a server that is away."""
    try:
        async with session.get(f"{url.rstrip('/')}/healthz"):
            pass
    except (ClientError, InvalidURL, TimeoutError) as error:
        raise CouldNotRun(reasons.of_connection(url, error)) from error


async def _speak(
    speech: Speaking, client: Client, plan: Plan, progress: Progress
) -> dict[str, Any]:
    """Simulates devices of another protocol."""
    return await foreign_play.play(client, await speech(client), plan, progress)


async def _report(client: Client, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Simulates devices that only report."""
    name = f"sim-{secrets.token_hex(4)}"
    devices = fleet.devices(name, plan.devices)
    start = await checks.log_size(client)
    await workload.register(
        client, devices, name, workload.bar(progress, "Registering", plan.devices)
    )
    began_s = time.monotonic()
    await _act_in_rounds(client, devices, plan, progress)
    seconds = time.monotonic() - began_s
    checked = await workload.check(
        client, devices, model=name, start=start, seed=plan.seed, progress=progress
    )
    tally = client.tally
    return {
        "devices": plan.devices,
        "reports recorded": tally.recorded,
        "duplicates": tally.duplicates,
        "reports a second": round((tally.recorded + tally.duplicates) / seconds),
        "requests": tally.requests,
        "tried again": tally.retries,
        "events checked": checked.events,
        "devices checked": plan.devices,
        "histories checked": checked.histories,
        "differences": tally.differences,
        "seed": plan.seed,
    }


async def _act_in_rounds(
    client: Client, devices: Sequence[SimulatedDevice], plan: Plan, progress: Progress
) -> None:
    """Runs rounds in which a device acts at most once, so that its requests follow each other."""
    random = Random(plan.seed)  # noqa: S311 (a play, not a secret)
    pacer = Pacer(plan.rate)
    end_s = time.monotonic() + plan.duration_s if plan.duration_s else None
    advance = workload.bar(progress, "Reporting", None)
    acts = fleet.first_installs(devices, random, workload.now_ms)
    rounds = 0
    while rounds < fleet.ROUNDS if end_s is None else time.monotonic() < end_s:
        in_time = (post for post in acts if end_s is None or time.monotonic() < end_s)
        await workload.by_many(_worker(client, pacer, in_time, advance))
        acts = fleet.later_acts(devices, random, workload.now_ms)
        rounds += 1


def _worker(
    client: Client, pacer: Pacer, posts: Iterator[Post], advance: AdvanceBar
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for post in posts:
            await pacer.wait(len(post.reports) * (1 + post.is_twice))
            await client.send(post)
            advance(1)

    return work

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
    plan_play,
    steered_play,
    workload,
)
from firmtrail.simulate.client import CONNECTIONS, Client, Pacer, Tally
from firmtrail.simulate.fleet import Post, SimulatedDevice
from firmtrail.simulate.workload import AdvanceBar, Plan

REQUEST_TIMEOUT_S = 30
DEVICES_MIN = max(steered_play.DEVICES_MIN, plan_play.DEVICES_MIN)
FAIL_PERCENT, PLANNED_FAIL_PERCENT = 8, 2

type Play = Callable[[Client, Plan, Progress], Awaitable[dict[str, Any]]]
"""Simulates, compares, and returns the summary."""

type Speaking = Callable[[Client], Awaitable[foreign_play.Speech]]
"""Returns the speech of a protocol in a project."""

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
    "--plan",
    "is_planned",
    is_flag=True,
    help="Play a plan of four phases, and a release that stops itself in its first phase.",
)
@click.option(
    "--fail-percent",
    type=Whole(2, 100),
    help="The percentage of installs that fail. With --steer, 8 unless you say otherwise; the "
    "rollout pauses at half of it. With --plan, 2, and at most 5.",
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
    is_planned: bool,
    fail_percent: int | None,
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

    With --plan, 1.1.0 is rolled out in four phases, half of its installs fail, and it must pause
    itself in the first. Then 1.2.0 goes through all four. When each phase began, and the offers and
    outcomes that belong to it, are derived from the log and compared with the service.

    With --protocol, the devices are clients of another protocol, and do what those can: 1.1.0 is
    rolled out to all of them, and rolled back. Idle polls must record nothing.
    """
    if token is None:
        raise click.UsageError(
            "The simulation needs a token of an admin of the project: give --token-file or "
            "FIRMTRAIL_TOKEN."
        )
    kinds = {"--steer": is_steered, "--plan": is_planned, "--protocol": protocol is not None}
    _check([name for name, is_chosen in kinds.items() if is_chosen], devices, duration)
    failing = _fail_percent(fail_percent, is_planned=is_planned)
    plan = Plan(devices, rate, duration, failing, seed or secrets.token_hex(4))
    play = _play_of(is_steered=is_steered, is_planned=is_planned, protocol=protocol)
    tally, summary = loop.run(_simulate(play, plan, url=url, project=project, token=token))
    _show(tally, summary, json=json)
    if tally.differences:
        ctx.exit(output.FOUND_WRONG)


def _check(kinds: Sequence[str], devices: int, duration: int | None) -> None:
    """Raises `UsageError` if options contradict each other; `kinds` are those that choose the
    simulation."""
    if len(kinds) > 1:
        raise click.UsageError(f"{kinds[-1]} excludes {kinds[0]}: give one of them.")
    if kinds and duration is not None:
        raise click.UsageError(f"{kinds[0]} excludes --duration.")
    if kinds in (["--steer"], ["--plan"]) and devices < DEVICES_MIN:
        raise click.UsageError(f"{kinds[0]} needs at least {DEVICES_MIN} devices.")


def _fail_percent(given: int | None, *, is_planned: bool) -> int:
    """Returns the percentage of installs that fail. Raises `UsageError` if a play of plans can't
    have so many."""
    percent = given or (PLANNED_FAIL_PERCENT if is_planned else FAIL_PERCENT)
    if is_planned and percent > plan_play.FAIL_PERCENT_MAX:
        raise click.UsageError(
            f"With --plan, --fail-percent is at most {plan_play.FAIL_PERCENT_MAX}."
        )
    return percent


def _play_of(*, is_steered: bool, is_planned: bool, protocol: str | None) -> Play:
    """Returns the simulation that the options choose."""
    if protocol is not None:
        return functools.partial(_speak, SPEECHES[protocol])
    if is_planned:
        return plan_play.play
    return steered_play.play if is_steered else _report


def _show(tally: Tally, summary: dict[str, Any], *, json: bool) -> None:
    """Shows the summary, and the differences that were found."""
    if json:
        output.show_json(summary)
    else:
        output.show_members(summary)
    for difference in tally.shown:
        click.echo(difference, err=json)


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

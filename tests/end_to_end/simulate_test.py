"""Checks that a simulated fleet finds no fault in the service, and that it finds every untruth.

FIRMTRAIL_TEST_FLEET sets how many devices are steered, as in `make fleet DEVICES=50000`.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from rich.progress import Progress

from firmtrail.cli import output
from firmtrail.cli.simulate import SPEECHES
from firmtrail.exits import CouldNotRun
from firmtrail.simulate import (
    checks,
    fleet,
    plan_checks,
    plan_play,
    steered_checks,
    steered_play,
    visits,
    workload,
)
from firmtrail.simulate import client as simulate_client
from firmtrail.simulate.attempts import OfferHistory, Pause
from firmtrail.simulate.client import Client
from firmtrail.simulate.fleet import Post, RecordedReport, ReportBody, SimulatedDevice
from firmtrail.simulate.steering import SteeredDevice
from firmtrail.simulate.visits import Simulation
from firmtrail.simulate.workload import Plan
from tests.databases import migrate_now, sqlite_template
from tests.end_to_end.command import firmtrail, firmtrail_within, in_process, new_project
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import PROJECT, new_site
from tests.postgres_server import PostgresServer

type Lie = tuple[Callable[[Simulation], Any], object, str, object]
"""A check, and an object, its attribute and a false value that the check must find."""

STEERED = int(os.environ.get("FIRMTRAIL_TEST_FLEET", "300"))
SECONDS_MAX = 60 + STEERED / 20


@pytest.fixture
def database(back_end: PostgresServer | None, tmp_path: Path) -> str:
    if back_end is None:
        (tmp_path / "firmtrail.db").write_bytes(sqlite_template())
        return f"sqlite:///{tmp_path}/firmtrail.db"
    url = back_end.create_database(f"simulate_{time.monotonic_ns()}")
    migrate_now(url)
    return url


def test_a_fleet_finds_what_it_reported(serve: Serve, database: str) -> None:
    token = new_project(database)
    url = serve(database).url
    to = ("--url", url, "--token", token, "--project", "acme", "--json")
    done = firmtrail(database, "simulate", *to, "--devices", "200", "--rate", "5000")
    assert (done.exit_code, done.said.count("\n") < 10) == (0, True), done.said
    assert done.json["differences"] == 0
    assert done.json["duplicates"] > 0
    assert done.json["histories checked"] == 200
    again = firmtrail(database, "simulate", *to, "--devices", "20", "--duration", "2")
    assert (again.exit_code, again.json["differences"]) == (0, 0), again.said
    assert again.json["reports recorded"] > 100


@pytest.mark.parametrize("protocol", SPEECHES)
def test_a_fleet_of_another_protocol_gets_what_was_ordered(
    serve: Serve, database: str, tmp_path: Path, protocol: str
) -> None:
    token = new_project(database)
    url = serve(database, "--artifacts", str(tmp_path / "artifacts")).url
    to = ("--url", url, "--token", token, "--project", "acme", "--json", "--rate", "100000")
    done = firmtrail(database, "simulate", *to, "--protocol", protocol, "--devices", "100")
    assert (done.exit_code, done.json["differences"]) == (0, 0), done.said
    installed, failed = done.json["installed"], done.json["failed"]
    assert (installed, failed) in {(200, 0), (192, 16)}
    assert done.json["files loaded"] == installed + failed
    assert done.json["polls"] >= 500
    steered = firmtrail(database, "simulate", *to, "--protocol", protocol, "--steer")
    assert (steered.exit_code, "--protocol excludes" in steered.said) == (2, True)


def test_a_fleet_without_rights_or_project_could_not_run(serve: Serve, database: str) -> None:
    token = new_project(database)
    url = serve(database).url
    known = ("--url", url, "--project", "acme")
    refused = in_process(database, "simulate", *known, "--token", "ftt_wrong")
    assert refused.exit_code == 2
    nowhere = ("--url", url, "--project", "nowhere", "--token", token)
    assert in_process(database, "simulate", *nowhere).exit_code == 2


@pytest.mark.timeout(4 * SECONDS_MAX)
def test_a_steered_fleet_gets_what_was_ordered_and_its_log_replays(
    serve: Serve, database: str, tmp_path: Path
) -> None:
    shown = played(serve, database, tmp_path, "--steer")
    assert shown["position of the pause"] == shown["position of the report over it"] + 1
    assert (shown["offers after it"], shown["differences"]) == (0, 0)


@pytest.mark.timeout(4 * SECONDS_MAX)
def test_a_planned_fleet_gets_what_was_ordered_and_its_log_replays(
    serve: Serve, database: str, tmp_path: Path
) -> None:
    shown = played(serve, database, tmp_path, "--plan")
    assert shown["1.1.0: phase in which it paused"] == 1
    assert (shown["1.1.0: offers after the pause"], shown["differences"]) == (0, 0)
    phases = [value for name, value in shown.items() if name.startswith("1.2.0: phase")]
    assert (len(phases), any(", 0 installed" in each for each in phases)) == (4, False), phases


def played(serve: Serve, database: str, tmp_path: Path, kind: str) -> dict[str, Any]:
    """Plays a fleet, audits the log, prints one summary, and returns it."""
    token = new_project(database)
    url = serve(database, "--artifacts", str(tmp_path / "artifacts")).url
    to = ("--url", url, "--token", token, "--project", "acme", "--json")
    options = (kind, "--devices", str(STEERED), "--rate", "100000")
    done = firmtrail_within(SECONDS_MAX, database, "simulate", *to, *options)
    assert (done.exit_code, done.said.count("\n") < 20) == (0, True), done.said
    shown = done.json
    for command in ("verify", "replay"):
        audit = ("audit", command, "--project", "acme", "--json")
        audited = firmtrail_within(SECONDS_MAX, database, *audit).json
        shown[f"audit {command}: entries"] = audited["logs"][0]["entries"]
        shown[f"audit {command}: found"] = audited["found"]
    output.show_table([{"": name, "count": value} for name, value in shown.items()], {})
    assert (shown["audit verify: found"], shown["audit replay: found"]) == (0, 0)
    return dict(shown)


async def test_a_service_that_is_away_ends_the_simulation_with_that_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(simulate_client, "PATIENCE_S", 0.2)
    async with ClientSession() as session:
        client = Client(session, "http://127.0.0.1:1", PROJECT, "x")

        async def work() -> None:
            await client.get("/devices")

        with pytest.raises(CouldNotRun, match="did not answer"):
            await workload.by_many(work)


def test_a_fleet_too_small_to_be_steered_is_refused(tmp_path: Path) -> None:
    to = ("--url", "http://127.0.0.1:1", "--token", "x", "--project", "acme")
    database = f"sqlite:///{tmp_path}/a.db"
    for kind in ("--steer", "--plan"):
        refused = in_process(database, "simulate", *to, kind, "--devices", "9")
        assert (refused.exit_code, "at least 300 devices" in refused.said) == (2, True)
    failing = in_process(database, "simulate", *to, "--plan", "--fail-percent", "8")
    assert (failing.exit_code, "at most 5" in failing.said) == (2, True)
    both = in_process(database, "simulate", *to, "--plan", "--steer")
    assert (both.exit_code, "--plan excludes --steer" in both.said) == (2, True)


@pytest.fixture
async def client(serve: Serve, tmp_path: Path) -> AsyncIterator[Client]:
    database = f"sqlite:///{tmp_path}/firmtrail.db"
    (tmp_path / "firmtrail.db").write_bytes(sqlite_template())
    site = await new_site(database, [])
    async with ClientSession() as session:
        yield Client(session, serve(database).url, PROJECT, site.admin)


class TestDifferences:
    """Checks that every difference between the model and the service is found."""

    async def play(self, client: Client) -> list[SimulatedDevice]:
        devices = fleet.devices("d", 8)
        await client.register(devices, "m1")
        for acts in (fleet.first_installs, *(fleet.later_acts,) * 3):
            chance = random.Random(7)
            for post in acts(devices, chance, lambda: int(time.time() * 1000)):
                await client.send(post)
        await self.check(client, devices)
        assert client.tally.differences == 0, client.tally.shown
        return devices

    async def check(self, client: Client, devices: list[SimulatedDevice]) -> list[int]:
        """Returns which of the four checks find a difference."""
        found = []
        for number, work in enumerate(self.checks(client, devices)):
            before = client.tally.differences
            await work
            if client.tally.differences > before:
                found.append(number)
        return found

    def checks(self, client: Client, devices: list[SimulatedDevice]) -> Iterator[Awaitable[object]]:
        yield checks.histories(client, iter(devices))
        yield checks.states(client, devices, "m1")
        yield checks.versions(client, devices, "m1")
        yield checks.log(client, devices, 0)

    async def test_a_report_that_the_service_does_not_have(self, client: Client) -> None:
        devices = await self.play(client)
        devices[0].recorded.append(
            RecordedReport(ReportBody("9.0.0"), 10_000, int(time.time() * 1000) + 60_000)
        )
        assert await self.check(client, devices) == [0, 1, 2, 3]

    async def test_a_report_that_the_service_should_not_have(self, client: Client) -> None:
        devices = await self.play(client)
        devices[1].recorded.clear()
        assert await self.check(client, devices) == [0, 1, 2, 3]

    async def test_a_receipt_that_names_another_position(self, client: Client) -> None:
        devices = await self.play(client)
        first, *rest = devices[2].recorded
        devices[2].recorded = [first._replace(position=first.position + 1), *rest]
        assert 3 in await self.check(client, devices)

    async def test_a_receipt_for_a_duplicate_of_nothing(self, client: Client) -> None:
        devices = await self.play(client)
        known = devices[0].recorded.pop()
        await client.send(Post(devices[0], [known.report]))
        assert client.tally.differences == 1


async def test_every_untruth_about_a_steered_fleet_is_found(client: Client) -> None:
    with Progress(disable=True) as progress:
        simulation = await steered_play.perform(client, Plan(300, 100_000, None, 8, "1"), progress)
    asked = next(each for each in simulation.devices if each.answered)

    async def is_found(check: Callable[[Simulation], Any]) -> bool:
        before = client.tally.differences
        if asyncio.iscoroutine(found := check(simulation)):
            await found
        return client.tally.differences > before

    for check, where, name, lie in lies_of(simulation, asked):
        assert not await is_found(check), client.tally.shown
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, lie)
            assert await is_found(check), (check, name)
    asked.device.name = "nobody"
    with pytest.raises(CouldNotRun, match="answered 404"):
        await steered_checks.asks(simulation)


async def test_every_untruth_about_a_plan_is_found(client: Client) -> None:
    plan, phases = Plan(300, 100_000, None, 2, "1"), plan_play.phases_for(300)
    with Progress(disable=True) as progress:
        simulation, rollouts = await plan_play.perform(client, plan, phases, progress)
    await plan_checks.log(simulation, rollouts, phases)
    assert client.tally.differences == 0, client.tally.shown
    reached_less, met_sooner, met_later, longer = (list(phases) for _ in range(4))
    reached_less[2] = phases[2]._replace(percent=phases[2].percent - 10)
    met_sooner[0] = phases[0]._replace(min_reports=1)
    met_later[1] = phases[1]._replace(min_reports=(phases[1].min_reports or 0) + 1)
    longer[2] = phases[2]._replace(after_ms=plan_play.AFTER_MS + 1000)
    for lie in (reached_less, met_sooner, met_later, longer):
        before = client.tally.differences
        await plan_checks.log(simulation, rollouts, lie)
        assert client.tally.differences > before, lie


def lies_of(simulation: Simulation, asked: SteeredDevice) -> list[Lie]:
    """Returns false values of the simulation, each with the check that must find it."""
    orders, pause = simulation.orders, simulation.pause
    back = next(
        each for each in simulation.devices if orders.rollback in each.offer_history.results
    )

    def rollout(simulation: Simulation) -> Awaitable[None]:
        return steered_checks.rollout(simulation, "withdrawn")

    def pause_of(simulation: Simulation) -> Pause:
        return steered_checks.pause(simulation, 4, 100)

    def check_in(simulation: Simulation) -> Awaitable[None]:
        return visits.visit(simulation, back)

    log, rollback, asks, ended = (
        steered_checks.log,
        steered_checks.rollback,
        steered_checks.asks,
        steered_checks.ended,
    )
    return [
        (log, simulation, "outcomes", simulation.outcomes[1:]),
        (log, simulation, "pause", pause._replace(position=pause.position + 1)),
        (log, simulation, "pause", pause._replace(failed=pause.failed + 1)),
        (log, back, "offer_history", OfferHistory()),
        (rollout, back, "offer_history", OfferHistory()),
        (rollout, simulation, "devices", simulation.devices[1:]),
        (rollback, back, "offer_history", OfferHistory()),
        (rollback, back, "runs", "1.1.0"),
        (ended, back, "runs", "1.1.0"),
        (asks, asked, "answered", (asked.answered and asked.answered[0], "1.1.1")),
        (check_in, simulation, "orders", orders._replace(rollback="")),
        (check_in, back, "etag", ""),
        (pause_of, simulation, "answers_meanwhile", [(pause.position + 2, "rollout")]),
    ]

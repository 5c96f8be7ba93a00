"""The simulated fleet: it finds nothing wrong with the service, and it would find it."""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from firmtrail.cli import fleet, fleet_check
from firmtrail.cli.fleet import Device, Post, Recorded, Report
from firmtrail.cli.fleet_client import Client
from tests.databases import migrate_now, sqlite_template
from tests.end_to_end.command import firmtrail, new_project
from tests.end_to_end.conftest import Serve
from tests.postgres_server import PostgresServer


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        (tmp_path / "firmtrail.db").write_bytes(sqlite_template())
        return f"sqlite:///{tmp_path}/firmtrail.db"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    url = postgres.create_database(f"simulate_{time.monotonic_ns()}")
    migrate_now(url)
    return url


def test_a_fleet_finds_what_it_said(serve: Serve, database: str) -> None:
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


def test_a_fleet_that_may_not_or_can_not_says_so(serve: Serve, database: str) -> None:
    token = new_project(database)
    url = serve(database).url
    known = ("--url", url, "--project", "acme")
    refused = firmtrail(database, "simulate", *known, "--token", "ftt_wrong")
    assert refused.exit_code == 2
    nowhere = ("--url", url, "--project", "nowhere", "--token", token)
    assert firmtrail(database, "simulate", *nowhere).exit_code == 2


class TestDifferences:
    """Whatever is untrue about the model, or the service, is found."""

    @pytest.fixture
    async def client(self, serve: Serve, tmp_path: Path) -> AsyncIterator[Client]:
        database = f"sqlite:///{tmp_path}/firmtrail.db"
        (tmp_path / "firmtrail.db").write_bytes(sqlite_template())
        token = new_project(database)
        async with ClientSession() as session:
            yield Client(session, serve(database).url, "acme", token)

    async def play(self, client: Client) -> list[Device]:
        devices = fleet.devices("d", 8)
        await client.register(devices, "m1")
        for acts in (fleet.first_installs, *(fleet.later_acts,) * 3):
            chance = random.Random(7)
            for post in acts(devices, chance, lambda: int(time.time() * 1000)):
                await client.play(post)
        await self.check(client, devices)
        assert client.tally.differences == 0, client.tally.shown
        return devices

    async def check(self, client: Client, devices: list[Device]) -> list[int]:
        """Which of the four checks find something."""
        found = []
        for number, work in enumerate(self.checks(client, devices)):
            before = client.tally.differences
            await work
            if client.tally.differences > before:
                found.append(number)
        return found

    def checks(self, client: Client, devices: list[Device]) -> Iterator[Awaitable[object]]:
        yield fleet_check.histories(client, iter(devices))
        yield fleet_check.states(client, devices, "m1")
        yield fleet_check.versions(client, devices, "m1")
        yield fleet_check.log(client, devices, 0)

    async def test_a_report_that_the_service_does_not_have(self, client: Client) -> None:
        devices = await self.play(client)
        devices[0].recorded.append(
            Recorded(Report("9.0.0"), 10_000, int(time.time() * 1000) + 60_000)
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

    async def test_a_report_told_to_be_a_duplicate_of_nothing(self, client: Client) -> None:
        devices = await self.play(client)
        known = devices[0].recorded.pop()
        await client.play(Post(devices[0], [known.report]))
        assert client.tally.differences == 1

"""The role that serves can raise the head of a log: `migrate` divides events by no such size."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmtrail.database.database import Statement
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks
from firmtrail.schema.dividing import Division, MisplacedEvents
from firmtrail.schema.migrate import Roles, migrate
from tests.contract.divided import SMALL, checked, shape
from tests.contract.migrations import run_outside
from tests.contract.undivided import before_identities
from tests.databases import INSTANCE, create_role, migrating, new_log, opened, postgres_copy
from tests.end_to_end.command import in_process
from tests.fleet import receipts, register, report
from tests.postgres_server import PostgresServer

SERVICE = "firmtrail_far_service"
FAR = 10**17
RAISE = f"UPDATE log_heads SET size = {FAR} WHERE log_id = 1"
LOWER = "UPDATE log_heads SET size = 16 WHERE log_id = 1"
PLANT = (
    "INSERT INTO events (log_id, position, stream, event_id, recorded_at_ms, entry) "
    f"VALUES (1, {FAR}, 'device/d1', 'far', 1, 'x')"
)
WAYS = [(RAISE, PLANT, LOWER), (RAISE,), (RAISE, PLANT, RAISE.replace(" WHERE", " + 1 WHERE"))]
NAMES = ["row", "head", "both"]


async def plant(url: str, *texts: str) -> None:
    """Runs statements in one transaction of the role that serves."""
    async with opened(url.replace("postgres@", f"{SERVICE}@")) as db, db.transaction() as tx:
        await tx.run(*map(Statement, texts))


async def divided(url: str) -> None:
    await served(url, SMALL)


async def undivided(url: str) -> None:
    async with before_identities(url):
        pass
    await served(url, Division())


async def served(url: str, division: Division) -> None:
    """Makes a log of 16 events in a database that has a role that serves."""
    await create_role(url, SERVICE)
    await migrate(migrating(url), INSTANCE, Roles(service=SERVICE), division=division)
    async with opened(url) as db:
        assert await new_log(db) == 1
        await register(Recorder(db), 1, *(f"d{n}" for n in range(16)))


def documented() -> list[str]:
    """Returns the statements with which an owner removes rows, and lowers a head."""
    page = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    ways = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    return [way.replace("LOG_ID", "1").replace("SIZE", "16") for way in ways]


@pytest.fixture
def divided_copy(postgres: PostgresServer) -> Iterator[str]:
    with postgres_copy(postgres, divided) as (url, _):
        yield url


@pytest.fixture
def undivided_copy(postgres: PostgresServer) -> Iterator[str]:
    with postgres_copy(postgres, undivided) as (url, _):
        yield url


@pytest.mark.parametrize("planted", WAYS, ids=NAMES)
async def test_a_far_size_or_row_is_refused_and_nothing_is_left_half_done(
    divided_copy: str, planted: tuple[str, ...]
) -> None:
    await plant(divided_copy, *planted)
    with pytest.raises(MisplacedEvents, match="log acme/1"):
        await migrate(migrating(divided_copy), INSTANCE, division=SMALL)
    assert await shape(divided_copy) == [(None, 20), (20, None)]
    async with opened(divided_copy) as db:
        assert await checks.postgres_unfinished(db) == []
    await run_outside(divided_copy, *documented())
    await migrate(migrating(divided_copy), INSTANCE, division=SMALL)
    assert await shape(divided_copy) == [(None, 20), (20, 40), (40, None)]
    async with opened(divided_copy) as db:
        [got] = await receipts(Recorder(db), 1, report("d1", report_id="next"))
        assert got.position == 16
        assert await checks.postgres_triggers(db) == []
    assert (await checked(divided_copy))[0] == "ok"


@pytest.mark.parametrize("planted", WAYS, ids=NAMES)
async def test_a_table_that_has_a_far_row_is_not_divided(
    undivided_copy: str, planted: tuple[str, ...]
) -> None:
    await plant(undivided_copy, *planted)
    wanted = Division(is_wanted=True, positions=20)
    with pytest.raises(MisplacedEvents):
        await migrate(migrating(undivided_copy), INSTANCE, division=wanted)
    assert await shape(undivided_copy) == [(None, None)]
    async with opened(undivided_copy) as db:
        assert await checks.postgres_unfinished(db) == []
    await run_outside(undivided_copy, *documented())
    await migrate(migrating(undivided_copy), INSTANCE, division=wanted)
    assert await shape(undivided_copy) == [(None, 40), (40, None)]


def test_the_command_says_which_row_is_in_the_way_and_where_to_read_on(
    divided_copy: str,
) -> None:
    asyncio.run(plant(divided_copy, RAISE, PLANT, LOWER))
    done = in_process(divided_copy, "migrate", "--positions", "1000")
    assert done.exit_code == 2
    assert f"position {FAR} of log acme/1" in done.said
    assert "docs/checkpoints.md" in done.said
    assert "left nothing half-done" not in done.said

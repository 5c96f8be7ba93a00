"""Checks the demo's fleet: what its log holds is what its views show, and it is made once."""

import pytest

from firmtrail.access import people, projects
from firmtrail.access.credentials import new_id
from firmtrail.commands import demo, demo_fleet
from firmtrail.database.database import Database
from firmtrail.eventstore import log
from firmtrail.projections import fleet_versions
from firmtrail.projections.controls import Controls
from tests import replay
from tests.people import add_project, new_access


async def fleet_of(db: Database) -> int:
    """Makes the fleet, and returns its log."""
    admin = new_id("u")
    async with db.transaction() as tx:
        await tx.run(people.ensure(admin, demo.EMAIL, 0))
    await demo_fleet.ensure(db, admin)
    log_id = await new_access(db).project(demo_fleet.PROJECT)
    assert log_id is not None
    return log_id


async def test_the_demos_fleet_is_what_its_log_says(db: Database) -> None:
    log_id = await fleet_of(db)
    assert await replay.differences(db, log_id) == []
    _, counts = await fleet_versions.counts(db, log_id)
    assert sum(count.devices for count in counts) == len(demo_fleet.devices())
    assert len(counts) > 5


async def test_the_demos_fleet_has_a_paused_rollout_and_some_under_way(db: Database) -> None:
    log_id = await fleet_of(db)
    async with db.moment() as reader:
        _, control = await Controls(db).at_moment(reader, log_id)
    phases = {name: found.phase for name, found in control.rollouts.items()}
    assert (phases["r_160"], phases["r_161"], phases["r_210"]) == ("paused", "running", "running")


async def test_the_demos_fleet_is_made_once(db: Database) -> None:
    log_id = await fleet_of(db)
    size = (await log.head(db, log_id)).size
    assert await fleet_of(db) == log_id
    assert (await log.head(db, log_id)).size == size


async def test_the_demo_knows_its_own_fleet(db: Database) -> None:
    await fleet_of(db)
    assert [each.project for each in await projects.page(db, limit=9)] == [demo_fleet.PROJECT]
    assert await demo.foreign(db, "demo") == f"a user {demo.EMAIL}", "the fleet is not foreign"


@pytest.mark.parametrize("project", [demo_fleet.PROJECT, "acme"])
async def test_the_demo_refuses_a_project_that_it_did_not_make(db: Database, project: str) -> None:
    await add_project(db, new_access(db), project)
    assert project in str(await demo.foreign(db, "demo"))

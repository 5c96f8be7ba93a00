"""Checks that the demo's fleet lives: its devices call, and install what the rules offer them."""

import asyncio

from firmtrail.access import people
from firmtrail.access.credentials import new_id
from firmtrail.commands import demo, demo_fleet, demo_life
from firmtrail.database.database import Database
from firmtrail.eventstore import log
from firmtrail.projections import fleet_versions
from firmtrail.recording.recorder import Recorder
from tests.people import new_access, recorded


async def fleet_of(db: Database, recorder: Recorder) -> tuple[int, demo_life.DemoFleet]:
    admin, access = new_id("u"), new_access(db)
    async with db.transaction() as tx:
        await tx.run(people.ensure(admin, demo.EMAIL, 0))
    await demo_fleet.ensure(db, admin)
    log_id = await access.project(demo_fleet.PROJECT)
    assert log_id is not None
    return log_id, demo_life.DemoFleet(access, recorder)


async def test_the_devices_of_the_demo_install_what_its_rollouts_offer(
    db: Database, recorder: Recorder
) -> None:
    log_id, fleet = await fleet_of(db, recorder)
    _, before = await fleet_versions.counts(db, log_id)
    for _ in range(2):
        await asyncio.gather(*(demo_life.call(fleet, name) for name in demo_life.callers()))
    _, after = await fleet_versions.counts(db, log_id)
    assert running(after, "1.6.1") > running(before, "1.6.1")
    events = [event for _, event in await recorded(db, log_id)]
    await asyncio.gather(*(demo_life.call(fleet, name) for name in demo_life.callers()))
    again = [event for _, event in await recorded(db, log_id)]
    assert len(again) - len(events) <= 10  # few devices fail, and try again later


async def test_a_device_that_may_not_call_does_not_end_the_life_of_the_others(
    db: Database, recorder: Recorder
) -> None:
    log_id, fleet = await fleet_of(db, recorder)
    names = ["stranger", *demo_life.callers()]
    life = asyncio.create_task(demo_life.live(fleet, names, every_s=0.001))
    size = (await log.head(db, log_id)).size
    async with asyncio.timeout(30):
        while (await log.head(db, log_id)).size < size + 6 and not life.done():
            await asyncio.sleep(0.05)
    life.cancel()
    await asyncio.wait([life])
    assert life.cancelled()


def running(counts: list[fleet_versions.VersionCount], version: str) -> int:
    return sum(each.devices for each in counts if each.version == version)

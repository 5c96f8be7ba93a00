"""Counts the events and rows that a plan leaves: they do not depend on the number of devices."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from firmtrail.commands import steering as commands
from firmtrail.database.database import Database
from firmtrail.database.sqlite import SQLite
from firmtrail.events.steering import PlanPhase
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.rollout import PlanTime, clock_at
from tests.clock import set_clock
from tests.contract.steered_log import check_in, release, roll_out
from tests.databases import new_log, read
from tests.fleet import register, report

NOW_MS = 1_790_000_000_000
PLAN = (PlanPhase(0, 60), PlanPhase(0, 60, 100, 1), PlanPhase(0), PlanPhase(10_000))
FOLLOWING = {"subtrees", "identities"}
"""Tables whose rows follow from those of `events` alone."""


async def rows(db: Database) -> Counter[str]:
    """Returns the number of rows of each table."""
    if isinstance(db, SQLite):
        text = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    else:
        text = """\
SELECT CAST(relname AS text)
FROM pg_class
WHERE relnamespace = CAST('public' AS regnamespace)
    AND relkind IN ('r', 'p')
    AND NOT relispartition
ORDER BY relname"""
    names = [name for [name] in await read(db, text) if name not in FOLLOWING]
    counts = {name: (await read(db, f'SELECT count(*) FROM "{name}"'))[0][0] for name in names}
    return Counter(counts)


async def added(db: Database, act: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """Returns how many rows of each table an act added, those of its events among them."""
    before = await rows(db)
    await act()
    return await rows(db) - before


@pytest.mark.parametrize("devices", [2, 300])
async def test_a_plan_leaves_one_event_for_each_order_and_none_for_devices_or_time(
    db: Database, recorder: Recorder, devices: int
) -> None:
    await set_clock(db, NOW_MS)
    log_id = await new_log(db)
    names = [f"d{number}" for number in range(devices)]
    await register(recorder, log_id, *names, model="m")
    await release(recorder, log_id, "1.0.0", "1.1.0")
    await recorder.report(log_id, [report(device=name) for name in names])
    started: list[str] = []

    async def start() -> None:
        more = {"plan": PLAN, "approvals": 1, "started_by": "u"}
        started.append(await roll_out(recorder, log_id, "1.1.0", reach=0, **more))

    async def approve() -> None:
        approval = commands.approve(started[0], None, person="v", actor="user/v")
        await recorder.act(log_id, approval)

    async def advance() -> None:
        await recorder.act(log_id, commands.advance(started[0], None, None, actor="user/u"))

    async def poll() -> None:
        decisions = await asyncio.gather(*(check_in(recorder, log_id, name) for name in names))
        assert {each.reason for each in decisions} == {"not_reached"}

    assert await added(db, start) == {"events": 1, "rollouts": 1}
    assert await added(db, approve) == {"events": 1}
    assert await added(db, poll) == {}
    await set_clock(db, NOW_MS + 60_000)
    assert await added(db, poll) == {}, "the second phase has begun without an event"
    found = recorder.controls.known(log_id)
    assert found is not None
    clock = clock_at(found.rollouts[started[0]], PlanTime(NOW_MS + 60_000))
    assert clock is not None
    assert clock.phase == 1
    assert await added(db, advance) == {"events": 1}
    assert await added(db, poll) == {}

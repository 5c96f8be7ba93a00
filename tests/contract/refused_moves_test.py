"""A move is refused if people or clocks of the two databases do not fit, and can be undone."""

import pytest

from firmtrail.access import people, projects
from firmtrail.database.database import Database
from firmtrail.eventstore import moving
from firmtrail.eventstore.log import AHEAD_MS_MAX
from firmtrail.moving import arrival
from firmtrail.moving.arrival import ClocksDiffer, ErasedThere
from tests.contract.moving import Move
from tests.databases import read


async def _boss(db: Database) -> str:
    [[boss]] = await read(db, "SELECT actor_id FROM users WHERE email = 'boss@example.org'")
    return str(boss)


async def test_a_person_who_was_erased_there_is_not_revived(move: Move) -> None:
    boss = await _boss(move.source)
    await arrival.check_erased(move.source, move.target, "acme")
    _, arriving = await move.arrive()
    async with move.target.transaction() as tx:
        await tx.run(people.ensure(boss, "boss@example.org", 5), people.erase(boss))
    with pytest.raises(ErasedThere, match=boss):
        await arrival.check_erased(move.source, move.target, "acme")
    with pytest.raises(ErasedThere, match=boss):  # also if it happened after the check
        await arrival.activate(move.target, arriving)
    assert await people.role_of(move.target, "acme", boss) is None
    assert await read(move.target, "SELECT token_id FROM tokens WHERE project = 'acme'") == []
    assert await projects.newest_log(move.target, "acme") is None


async def test_a_clock_that_is_far_behind_refuses_a_move_and_no_undo(move: Move) -> None:
    end, copies = await move.stop(), await move.copy()
    await arrival.check_clocks(move.target, end.head)
    late_ms = end.head.now_ms + 2 * AHEAD_MS_MAX
    open_head = end.head._replace(closed=False)
    for late in (end.head._replace(recorded_at_ms=late_ms), open_head._replace(now_ms=late_ms)):
        with pytest.raises(ClocksDiffer, match=r"20.*Z.*20.*Z"):
            await arrival.check_clocks(move.target, late)
    late = end.head._replace(recorded_at_ms=late_ms)
    log_id = await arrival.prepare(move.target, late, copies[late.log_id])
    await arrival.give_up(move.target, late, "eu")
    assert await moving.closed_state(move.target, log_id) == moving.GIVEN_UP

"""An undone move leaves no free text in the other database; the project may move there again."""

import pytest

from firmtrail.commands import move_project
from firmtrail.database.database import Database
from firmtrail.moving import arrival
from firmtrail.moving.arrival import GivenUp
from tests.contract.moving import Move, wrong
from tests.databases import read


async def _texts(db: Database) -> int:
    [[number]] = await read(
        db,
        "SELECT count(*) FROM texts JOIN log_heads ON log_heads.log_id = texts.log_id "
        "WHERE log_heads.project = 'acme'",
    )
    return int(number)


@pytest.mark.parametrize("has_begun", [True, False])
async def test_texts_leave_with_the_project_and_come_again(
    move: Move, other_url: str, *, has_begun: bool
) -> None:
    end, arriving = await move.arrive()
    if has_begun:
        await arrival.activate(move.target, arriving)
    assert await _texts(move.target) == await _texts(move.source) > 0
    await arrival.give_up(move.target, end.head, "eu")
    assert await _texts(move.target) == 0
    await move_project.undo(move.source, move.log_id, move.recorder.minimum_sizes, "system")
    _, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    assert await _texts(move.target) == await _texts(move.source)
    for verify in (True, False):
        assert await wrong(other_url, verify=verify) == []


async def test_texts_that_come_after_an_undo_leave_with_the_next_one(move: Move) -> None:
    end = await move.stop()
    await arrival.give_up(move.target, end.head, "eu")
    copies = await move.copy()
    with pytest.raises(GivenUp):
        await arrival.prepare(move.target, end.head, copies[end.head.log_id])
    await arrival.give_up(move.target, end.head, "eu")
    assert await _texts(move.target) == 0

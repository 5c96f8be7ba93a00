"""A server sees every project that is being moved away, however many there are."""

import pytest

from firmtrail.commands import move_project
from firmtrail.database.database import Database
from firmtrail.eventstore import moving
from firmtrail.http.moves import Moves
from firmtrail.recording.recorder import Recorder
from tests.contract.moving import WANTED
from tests.people import add_project, new_access


async def test_all_pages_of_leaving_projects_are_read(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "PAGE_PROJECTS", 2)
    recorder, access = Recorder(db), new_access(db)
    names = ["a", "b", "c", "d", "e"]
    for name in names:
        log_id = await add_project(db, access, name)
        if name != "b":
            await move_project.start(db, recorder, log_id, wanted=WANTED, actor="system")
    await recorder.close()
    access.hasher.close()
    found = [(project, state) for project, state, _ in await moving.leaving(db)]
    assert found == [(name, moving.CLOSED) for name in names if name != "b"]
    moves = Moves(db)
    await moves.look()
    assert sorted(moves._leaving) == ["a", "c", "d", "e"]

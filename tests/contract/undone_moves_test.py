"""A move that is undone leaves no half of a project, and its copies are signed by nobody."""

from pathlib import Path

import pytest

from firmtrail.access import projects
from firmtrail.access.certified import CertifiedDevices
from firmtrail.access.lookup import Access
from firmtrail.commands import access as commands
from firmtrail.commands import move_project
from firmtrail.database.database import Database
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.eventstore import log, moving
from firmtrail.moving import arrival, logs
from firmtrail.moving.arrival import UsedThere
from firmtrail.publishing import signing_key
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.certificate import CertificateName
from firmtrail.rules.device import Refused
from tests.contract.moving import Move, wrong
from tests.databases import read
from tests.people import add_member, add_project, begin_session


@pytest.fixture
async def user(db: Database, access: Access, recorder: Recorder) -> str:
    """Makes a project that has left; returns the id of a person who is in another project."""
    await add_project(db, access, "acme")
    async with db.transaction() as tx:
        await tx.run(projects.leave("acme"))
    other = await add_project(db, access, "other")
    return await add_member(recorder, other, "a@b.example", "admin")


async def test_a_certificate_opens_nothing(db: Database, user: str) -> None:
    devices = CertifiedDevices(db)
    names = frozenset({CertificateName("cn", "d1")})
    for _ in range(2):
        assert (await devices.find(names, "acme", "d1")).log_id is None


async def test_a_session_finds_no_log(db: Database, access: Access, user: str) -> None:
    text = await begin_session(db, access, user)
    session = await access.session(text, "acme", address="10.0.0.1")
    assert session is not None
    assert (session.log_id, session.role) == (None, None)


async def test_the_name_is_not_there_and_is_not_given_again(db: Database, user: str) -> None:
    assert not await projects.is_there(db, "acme")
    assert [each.project for each in await projects.page(db, limit=9)] == ["other"]
    with pytest.raises(Refused, match="kept for a project of another instance") as refused:
        await commands.add_project(db, "acme", actor="system", creator=None)
    assert refused.value.code == "project_exists"


async def _signed(target: Database, folder: Path) -> list[str]:
    """Lets the other instance publish what it signs; returns the first lines of its notes."""
    key = folder / "eu.key"
    if not key.exists():
        signing_key.create(key)
    signer = Signer("eu", signing_key.read(key))
    there = Publisher(target, MinimumSizes(), signer, CheckpointFile(folder / "eu.checkpoints"))
    await there.check()
    await there.following.round()
    assert there.following.problem is None
    notes = await read(target, "SELECT note FROM checkpoints WHERE note LIKE 'eu/%' ORDER BY 1")
    return [note.partition("\n")[0] for [note] in notes]


async def _copy_a_part(move: Move) -> None:
    def stop(entries: int) -> None:
        if entries == 100:
            raise InterruptedError

    [first, *_] = await log.logs(move.source, "acme", after=0, limit=10)
    with pytest.raises(InterruptedError):
        await logs.copy(move.source, move.target, first, stop)


async def _add(target: Database) -> None:
    await commands.add_project(target, "acme", actor="system", creator=None)


@pytest.mark.parametrize("is_added_first", [True, False])
async def test_nobody_signs_copies_of_a_move_that_was_undone(
    move: Move, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_added_first: bool
) -> None:
    monkeypatch.setattr(moving, "PAGE_ENTRIES", 100)
    end = await move.stop()
    await _copy_a_part(move)
    if is_added_first:
        with pytest.raises(Refused, match="kept for a project of another instance"):
            await _add(move.target)
    assert await _signed(move.target, tmp_path) == []
    await arrival.give_up(move.target, end.head, "eu")
    with pytest.raises(Refused, match="kept for a project of another instance"):
        await _add(move.target)
    assert await _signed(move.target, tmp_path) == []


async def test_nobody_signs_whole_copies_of_a_move_that_was_undone(
    move: Move, other_url: str, tmp_path: Path
) -> None:
    end, arriving = await move.arrive()
    await arrival.give_up(move.target, end.head, "eu")
    assert await _signed(move.target, tmp_path) == []
    await move_project.undo(move.source, move.log_id, move.recorder.minimum_sizes, "system")
    _, arriving = await move.arrive()  # the name is kept for this project
    await arrival.activate(move.target, arriving)
    assert await _signed(move.target, tmp_path) == ["eu/acme/4"]
    for verify in (True, False):
        assert await wrong(other_url, verify=verify) == []


async def test_a_project_that_was_added_before_the_copies_is_left_alone(
    move: Move, other_url: str, tmp_path: Path
) -> None:
    end = await move.stop()
    await _add(move.target)
    with pytest.raises(logs.OtherLog, match="use another database"):
        await move.copy()
    with pytest.raises(logs.OtherLog, match="use another database"):
        await logs.added(move.target, "acme", 9)
    await arrival.give_up(move.target, end.head, "eu")
    heads = await log.logs(move.target, "acme", after=0, limit=10)
    assert [(head.number, head.closed) for head in heads] == [(1, False)]
    assert await _signed(move.target, tmp_path) == ["eu/acme/1"]
    assert await wrong(other_url, verify=True) == []


async def test_a_move_is_not_undone_when_the_project_has_moved_further(move: Move) -> None:
    end, arriving = await move.arrive()
    await arrival.activate(move.target, arriving)
    recorder = Recorder(move.target)
    wanted = ProjectMoveStarted("us", "https://us.example")
    await move_project.start(move.target, recorder, arriving.log_id, wanted=wanted, actor="system")
    await recorder.close()
    with pytest.raises(UsedThere):
        await arrival.give_up(move.target, end.head, "eu")
    await move_project.finish(move.target, arriving.log_id)
    with pytest.raises(UsedThere):
        await arrival.give_up(move.target, end.head, "eu")
    assert await moving.closed_state(move.target, arriving.log_id) == moving.MOVED

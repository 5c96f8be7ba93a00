"""The name of a project whose move to here was undone has no project, and is not given again."""

from collections.abc import AsyncIterator

import pytest

from firmtrail.access import projects
from firmtrail.access.certified import CertifiedDevices
from firmtrail.access.lookup import Access
from firmtrail.commands import access as commands
from firmtrail.database.database import Database
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.certificate import CertificateName
from firmtrail.rules.device import Refused
from tests.people import add_member, add_project, begin_session, new_access


@pytest.fixture
async def access(db: Database) -> AsyncIterator[Access]:
    access = new_access(db)
    yield access
    access.hasher.close()


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

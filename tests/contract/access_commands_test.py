"""Tests the writes and refusals of commands on projects, members, tokens and people."""

import asyncio

import pytest
from msgspec.structs import asdict

from firmtrail.access import logins, people, settings, tokens
from firmtrail.access.lookup import Access
from firmtrail.access.roles import EVERYTHING, PERMISSIONS, Permissions, Role
from firmtrail.commands import access as commands
from firmtrail.commands.erase_user import erase_member, erase_user
from firmtrail.commands.once import CommandAnswer
from firmtrail.database.database import Database
from firmtrail.events.access import (
    MemberAdded,
    MemberChanged,
    MemberRemoved,
    TokenIssued,
    TokenRevoked,
    UserErased,
)
from firmtrail.events.fleet import SettingsChanged
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules import settings as settings_rules
from firmtrail.rules.device import Refused
from firmtrail.rules.settings import Settings
from tests.people import add_member, add_project, issue_token, recorded

INITIAL = (
    "project/acme",
    SettingsChanged(**asdict(settings_rules.INITIAL)),
)


@pytest.fixture
async def acme(db: Database, access: Access) -> int:
    return await add_project(db, access, "acme")


async def refusal(recorder: Recorder, log_id: int, command: LogCommand[object]) -> tuple[str, int]:
    with pytest.raises(Refused) as refused:
        await recorder.act(log_id, command)
    return refused.value.code, refused.value.status


async def test_a_new_project_starts_with_its_settings_and_its_creator_as_admin(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    user = await add_member(recorder, acme, "a@b.example", "viewer")
    await commands.add_project(db, "mine", actor=f"user/{user}", creator=user)
    mine = await access.project("mine")
    assert mine is not None
    assert await recorded(db, mine) == [
        ("project/mine", INITIAL[1]),
        (f"user/{user}", MemberAdded(user, "admin")),
    ]
    assert await people.role_of(db, "mine", user) == "admin"


async def test_a_name_is_given_once_even_to_concurrent_requests(db: Database) -> None:
    created = await asyncio.gather(
        *(commands.add_project(db, f"p{n % 3}", actor="system", creator=None) for n in range(9)),
        return_exceptions=True,
    )
    refused = [each.code for each in created if isinstance(each, Refused)]
    outcomes = refused + [each.status for each in created if isinstance(each, CommandAnswer)]
    assert sorted(map(str, outcomes)) == ["201"] * 3 + ["project_exists"] * 6


async def test_adding_changing_and_removing_a_member_is_logged(
    db: Database, recorder: Recorder, acme: int
) -> None:
    await add_member(recorder, acme, "boss@b.example", "admin")
    user = await add_member(recorder, acme, "A@b.example", "viewer")
    assert await add_member(recorder, acme, "a@B.example", "viewer") == user
    assert await add_member(recorder, acme, "a@b.example", "operator") == user
    await recorder.act(acme, commands.remove_member(user, actor="system"))
    assert [event for stream, event in await recorded(db, acme) if stream == f"user/{user}"] == [
        MemberAdded(user, "viewer"),
        MemberChanged(user, "operator"),
        MemberRemoved(user),
    ]
    assert [member.email for member in await people.members(db, "acme", limit=9)] == [
        "boss@b.example"
    ]


async def test_the_log_holds_no_address_and_no_token(
    db: Database, recorder: Recorder, acme: int
) -> None:
    user = await add_member(recorder, acme, "secret.person@b.example", "admin")
    token = await issue_token(recorder, acme, user, "viewer")
    text = repr(await recorded(db, acme))
    assert "person" not in text
    assert token.text not in text
    assert token.token.token_id in text


@pytest.mark.parametrize("role", ["viewer", "operator", "auditor", "gateway", None])
async def test_the_last_admin_is_neither_demoted_nor_removed(
    recorder: Recorder, acme: int, role: Role | None
) -> None:
    boss = await add_member(recorder, acme, "boss@b.example", "admin")
    end = (
        commands.set_member("boss@b.example", role, actor="system")
        if role
        else commands.remove_member(boss, actor="system")
    )
    assert await refusal(recorder, acme, end) == ("last_admin", 409)
    await add_member(recorder, acme, "second@b.example", "admin")
    await recorder.act(acme, end)


async def test_of_two_admins_who_remove_each_other_one_stays(
    db: Database, recorder: Recorder, acme: int
) -> None:
    admins = [await add_member(recorder, acme, f"{n}@b.example", "admin") for n in range(2)]
    other = Recorder(db)
    outcomes = await asyncio.gather(
        recorder.act(acme, commands.remove_member(admins[0], actor="system")),
        other.act(acme, commands.remove_member(admins[1], actor="system")),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes].count(Refused) == 1
    assert await people.members_count(db, "acme") == 1
    await other.close()


async def test_removing_a_non_member_is_refused(recorder: Recorder, acme: int) -> None:
    remove = commands.remove_member("u_none", actor="system")
    assert await refusal(recorder, acme, remove) == ("not_found", 404)


async def test_a_removed_member_who_returns_finds_no_old_token_alive(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    await add_member(recorder, acme, "boss@b.example", "admin")
    user = await add_member(recorder, acme, "a@b.example", "operator")
    token = await issue_token(recorder, acme, user, "operator")
    await recorder.act(acme, commands.remove_member(user, actor="system"))
    await add_member(recorder, acme, "a@b.example", "operator")
    assert (await access.find(token.text, "acme", None, address="")).token_id is None
    token_id = token.token.token_id
    history = [event for stream, event in await recorded(db, acme) if stream.endswith(token_id)]
    assert history == [TokenIssued(token_id, user, "operator"), TokenRevoked(token_id)]


@pytest.mark.parametrize(
    ("holder", "issuer", "wanted", "is_issued"),
    [
        ("admin", EVERYTHING, "admin", True),
        ("admin", PERMISSIONS["operator"], "operator", True),
        ("admin", PERMISSIONS["operator"], "gateway", True),
        ("admin", PERMISSIONS["operator"], "auditor", False),
        ("operator", EVERYTHING, "admin", False),
        ("viewer", EVERYTHING, "gateway", False),
        ("auditor", EVERYTHING, "viewer", True),
    ],
)
async def test_a_token_may_no_more_than_its_issuer_and_its_holder(
    recorder: Recorder,
    acme: int,
    holder: Role,
    issuer: Permissions,
    wanted: Role,
    is_issued: bool,
) -> None:
    user = await add_member(recorder, acme, "a@b.example", holder)
    issue = commands.issue_token(commands.TokenRequest(user, "", wanted), issuer, actor="system")
    if is_issued:
        assert (await recorder.act(acme, issue)).token.role == wanted
    else:
        assert await refusal(recorder, acme, issue) == ("forbidden", 403)


async def test_a_token_is_revoked_once(recorder: Recorder, acme: int) -> None:
    user = await add_member(recorder, acme, "a@b.example", "admin")
    token = await issue_token(recorder, acme, user, "viewer")
    revoke = commands.revoke_token(token.token.token_id, actor="system")
    await recorder.act(acme, revoke)
    assert await refusal(recorder, acme, revoke) == ("not_found", 404)


async def test_a_new_password_ends_the_logins_made_with_the_old(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    user = await add_member(recorder, acme, "a@b.example", "admin")
    async with db.transaction() as tx:
        await tx.run(logins.insert_login(user, "ftt_login", 0, access.now_ms() + 60_000))
    assert (await access.find("ftt_login", None, None, address="")).actor_id == user
    await add_member(recorder, acme, "a@b.example", "admin", password_hash="a new hash")
    assert (await access.find("ftt_login", None, None, address="")).actor_id is None


async def test_settings_are_what_was_set_last(db: Database, recorder: Recorder, acme: int) -> None:
    for event in (SettingsChanged(poll_after_s=60), SettingsChanged(max_attempts=5)):
        await recorder.act(acme, commands.change_settings(event, actor="system"))
    assert await settings.current(db, acme, "acme") == Settings(poll_after_s=60, max_attempts=5)


@pytest.fixture
async def erased(db: Database, access: Access, recorder: Recorder, acme: int) -> str:
    """Returns the only admin of acme, once a member of other and never of third; not yet erased."""
    other = await add_project(db, access, "other")
    await add_project(db, access, "third")
    hashed = await access.hasher.hash("user", "ABC")
    user = await add_member(recorder, acme, "a@b.example", "admin", password_hash=hashed)
    await issue_token(recorder, acme, user, "viewer")
    await add_member(recorder, other, "a@b.example", "viewer")
    await recorder.act(other, commands.remove_member(user, actor="system"))
    return user


async def check_is_erased(db: Database, access: Access, actor_id: str) -> None:
    for project, times in (("acme", 1), ("other", 1), ("third", 0)):
        log_id = await access.project(project)
        assert log_id is not None
        events = [event for _, event in await recorded(db, log_id)]
        assert events.count(UserErased(actor_id)) == times
    user = await people.by_id(db, actor_id)
    assert user is not None
    assert user.erased_at_ms is not None
    assert (user.email, user.password_hash) == (None, None)
    assert not await tokens.page(db, actor_id, None, limit=9)
    assert not await people.logs_naming(db, actor_id)
    assert await access.login("a@b.example", "ABC", address="") is None


async def test_an_erased_person_leaves_an_id_and_one_event_in_each_project(
    db: Database, access: Access, recorder: Recorder, erased: str
) -> None:
    await erase_user(db, recorder, erased, actor="system")
    await check_is_erased(db, access, erased)


async def test_erasing_again_after_a_crash_completes_it(
    db: Database, access: Access, recorder: Recorder, acme: int, erased: str
) -> None:
    await recorder.act(acme, erase_member(erased, actor="system"))
    for _ in range(2):
        await erase_user(db, recorder, erased, actor="system")
    await check_is_erased(db, access, erased)


async def test_an_erased_persons_address_can_become_somebody_else(
    db: Database, access: Access, recorder: Recorder, acme: int, erased: str
) -> None:
    await erase_user(db, recorder, erased, actor="system")
    assert await add_member(recorder, acme, "a@b.example", "admin") != erased
    await check_is_erased(db, access, erased)

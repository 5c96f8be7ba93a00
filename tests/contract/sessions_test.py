"""A session of a browser is found by its cookie alone, and ends when its login ends."""

import pytest

from firmtrail.access import logins, sessions, tokens
from firmtrail.access.hashing import TooManyAttempts
from firmtrail.access.lookup import Access
from firmtrail.access.sessions import IDLE_MS, LIFETIME_MS, USED_MS, Session
from firmtrail.commands import access as commands
from firmtrail.commands.erase_user import erase_user
from firmtrail.database.database import Database, Statement
from firmtrail.recording.recorder import Recorder
from tests.contract.clocked import Clock, access, acme, clock
from tests.databases import read
from tests.people import add_member, begin_session

__all__ = ["access", "acme", "clock"]  # fixtures

HOUR_MS = 3600 * 1000


@pytest.fixture
async def user(recorder: Recorder, acme: int) -> str:
    await add_member(recorder, acme, "boss@b.example", "admin")
    return await add_member(recorder, acme, "a@b.example", "operator")


@pytest.fixture
async def text(db: Database, access: Access, user: str) -> str:
    """Returns the cookie's text of a session that has just begun."""
    return await begin_session(db, access, user)


async def found(access: Access, text: str, project: str | None = "acme") -> Session | None:
    return await access.session(text, project, address="10.0.0.1")


async def test_a_session_is_found_with_the_persons_role_in_the_project(
    access: Access, acme: int, user: str, text: str
) -> None:
    session = await found(access, text)
    assert session is not None
    assert (session.actor_id, session.email) == (user, "a@b.example")
    assert (session.log_id, session.role) == (acme, "operator")
    elsewhere = await found(access, text, "nowhere")
    assert elsewhere is not None and (elsewhere.log_id, elsewhere.role) == (None, None)
    nowhere = await found(access, text, None)
    assert nowhere is not None and nowhere.actor_id == user


async def test_only_a_digest_of_the_cookie_is_stored(db: Database, text: str) -> None:
    rows = await read(db, "SELECT digest, session_digest, token_id, name FROM tokens LIMIT 9")
    assert len(rows) == 1
    assert text not in str(rows)
    assert len(rows[0][1]) == 64


async def test_the_text_of_a_cookie_is_no_token_and_a_token_is_no_session(
    db: Database, access: Access, user: str, text: str
) -> None:
    as_token = await access.find(text, "acme", None, address="10.0.0.1")
    assert (as_token.token_id, as_token.actor_id) == (None, None)
    async with db.transaction() as tx:
        await tx.run(logins.insert_login(user, "ftt_login", 0, access.now_ms() + 60_000))
    assert await found(access, "ftt_login") is None
    [[digest]] = await read(db, "SELECT digest FROM tokens WHERE used_at_ms > 0 LIMIT 9")
    assert await found(access, digest) is None
    assert (await access.find(digest, "acme", None, address="10.0.0.1")).token_id is None


async def test_a_session_ends_when_it_was_not_used_for_twelve_hours(
    access: Access, clock: Clock, text: str
) -> None:
    for hours in (11, 11, 11):
        clock.ms += hours * HOUR_MS
        assert await found(access, text) is not None
    clock.ms += IDLE_MS
    assert await found(access, text) is None


async def test_a_session_ends_seven_days_after_its_beginning_however_it_is_used(
    access: Access, clock: Clock, text: str
) -> None:
    began_ms = clock.ms
    while clock.ms + 10 * HOUR_MS < began_ms + LIFETIME_MS:
        clock.ms += 10 * HOUR_MS
        assert await found(access, text) is not None
    clock.ms = began_ms + LIFETIME_MS
    assert await found(access, text) is None


async def test_the_use_of_a_session_is_written_now_and_then(
    db: Database, access: Access, clock: Clock, text: str
) -> None:
    async def used_ms() -> int:
        [[used]] = await read(db, "SELECT used_at_ms FROM tokens LIMIT 9")
        return int(used)

    began_ms = clock.ms
    clock.ms += USED_MS - 1
    await found(access, text)
    assert await used_ms() == began_ms
    clock.ms += 1
    await found(access, text)
    assert await used_ms() == clock.ms


async def test_a_session_is_listed_among_logins_until_it_ends(
    db: Database, access: Access, clock: Clock, user: str, text: str
) -> None:
    [login] = await logins.living(db, user, clock.ms, limit=9)
    assert login.used_at_ms == clock.ms
    [listed] = await tokens.page_of_members(db, "acme", clock.ms, limit=9)
    assert (listed.name, listed.role, listed.actor_id) == ("console", None, user)
    assert await found(access, text) is not None
    clock.ms += IDLE_MS
    assert await logins.living(db, user, clock.ms, limit=9) == []
    assert await tokens.count_of_members(db, "acme", clock.ms) == 0
    async with db.transaction() as tx:
        await tx.run(logins.forget_expired_logins(user, clock.ms))
    assert await read(db, "SELECT token_id FROM tokens LIMIT 9") == []


async def test_what_ends_a_login_ends_the_session_on_the_next_request(
    db: Database, access: Access, recorder: Recorder, acme: int, user: str
) -> None:
    begun: list[str] = []

    async def by_a_new_password() -> None:
        await add_member(recorder, acme, "a@b.example", "operator", password_hash="a new hash")

    async def by_its_text() -> None:
        async with db.transaction() as tx:
            await tx.run(sessions.end(begun[-1]))

    async def by_its_holder() -> None:
        [login] = await logins.living(db, user, access.now_ms(), limit=9)
        async with db.transaction() as tx:
            await tx.run(logins.end_login(user, login.token_id))

    async def by_an_admin() -> None:
        [login] = await logins.living(db, user, access.now_ms(), limit=9)
        await recorder.act(acme, commands.end_token(login.token_id, actor="system"))

    async def by_erasing() -> None:
        await erase_user(db, recorder, user, actor="system")

    for end in (by_a_new_password, by_its_text, by_its_holder, by_an_admin, by_erasing):
        begun.append(await begin_session(db, access, user))
        assert await found(access, begun[-1]) is not None
        await end()
        assert await found(access, begun[-1]) is None, end


async def test_a_session_or_link_that_is_revoked_opens_nothing(
    db: Database, access: Access, user: str, text: str
) -> None:
    now_ms = access.now_ms()
    async with db.transaction() as tx:
        await tx.run(sessions.link(user, "a-code", now_ms))
        await tx.run(Statement("UPDATE tokens SET revoked_at_ms = $1", (now_ms,)))
        [followed] = await tx.run(sessions.follow("a-code", now_ms))
    assert followed == []
    assert await found(access, text) is None


async def test_a_removed_member_has_no_role_on_the_next_request(
    access: Access, recorder: Recorder, acme: int, user: str, text: str
) -> None:
    await recorder.act(acme, commands.remove_member(user, actor="system"))
    session = await found(access, text)
    assert session is not None and session.role is None


async def test_guesses_of_a_session_are_counted_and_never_lock_out_a_valid_one(
    access: Access, text: str
) -> None:
    for _ in range(300):
        assert await found(access, "a guess") is None
    with pytest.raises(TooManyAttempts):
        await found(access, "a guess")
    assert await found(access, text) is not None

"""A presented credential is resolved on every back end, and changes take effect immediately."""

import pytest
from msgspec.structs import replace

from firmtrail.access import logins
from firmtrail.access.credentials import new_secret, new_token
from firmtrail.access.device_secrets import SealedSecret, insert_secrets, revoke_secrets
from firmtrail.access.lookup import NO_DEVICE, OTHER_DEVICE, OWN_DEVICE, Access, ResolvedCredential
from firmtrail.commands import access as commands
from firmtrail.database.database import Database, Statement
from firmtrail.recording.recorder import Recorder
from tests.contract.clocked import Clock, access, acme, clock
from tests.people import add_member, add_project, add_secret, issue_token

__all__ = ["access", "acme", "clock"]  # fixtures


async def find(
    access: Access, text: str, device: str | None, project: str = "acme"
) -> ResolvedCredential:
    return await access.find(text, project, device, address="10.0.0.1")


async def run(db: Database, statement: Statement) -> None:
    async with db.transaction() as tx:
        await tx.run(statement)


@pytest.mark.parametrize("text", [None, "x" * 32, "AAA"], ids=["issued", "strong", "weak"])
async def test_a_devices_secret_is_found_on_its_own_path(
    db: Database, access: Access, acme: int, text: str | None
) -> None:
    secret = await add_secret(db, access, "acme", "d1", text=text)
    found = await find(access, secret, "d1")
    assert (found.device_secret, found.log_id) == (OWN_DEVICE, acme)


@pytest.mark.parametrize(
    ("text", "seen_as"), [("x" * 32, OTHER_DEVICE), ("AAA", NO_DEVICE)], ids=["strong", "weak"]
)
async def test_only_a_strong_secret_is_known_on_another_devices_path(
    db: Database, access: Access, acme: int, text: str, seen_as: int
) -> None:
    await add_secret(db, access, "acme", "d1", text=text)
    for project, device in (("acme", "d2"), ("other", "d1"), ("acme", None), (None, None)):
        found = await access.find(text, project, device, address="10.0.0.1")
        assert found.device_secret == seen_as


async def test_devices_may_share_a_secret(db: Database, access: Access, acme: int) -> None:
    for device in ("d1", "d2"):
        await add_secret(db, access, "acme", device, text="y" * 40)
    for device in ("d1", "d2"):
        assert (await find(access, "y" * 40, device)).device_secret == OWN_DEVICE


@pytest.mark.parametrize(
    "text",
    [new_secret(), new_token(), "z" * 32, "AAA"],
    ids=["secret", "token", "long", "short"],
)
async def test_an_unknown_credential_belongs_to_nobody(
    access: Access, acme: int, text: str
) -> None:
    nobody = ResolvedCredential(acme, NO_DEVICE, None, None, None, None, None, None)
    assert await find(access, text, "d1") == nobody
    assert await find(access, text, "d1", "unknown") == replace(nobody, log_id=None)


@pytest.mark.parametrize("text", ["x" * 32, "AAA"], ids=["strong", "weak"])
async def test_a_revoked_secret_is_refused_on_the_next_request(
    db: Database, access: Access, acme: int, text: str
) -> None:
    await add_secret(db, access, "acme", "d1", text=text)
    assert (await find(access, text, "d1")).device_secret == OWN_DEVICE
    await run(db, revoke_secrets("acme", "d1"))
    assert (await find(access, text, "d1")).device_secret == NO_DEVICE


@pytest.mark.parametrize("text", ["x" * 32, "AAA"], ids=["strong", "weak"])
async def test_rotation_keeps_the_old_secret_until_its_overlap_ends(
    db: Database, access: Access, acme: int, clock: Clock, text: str
) -> None:
    await add_secret(db, access, "acme", "d1", text=text)
    await run(db, revoke_secrets("acme", "d1", access.now_ms() + 60_000))
    new = await add_secret(db, access, "acme", "d1")
    assert (await find(access, text, "d1")).device_secret == OWN_DEVICE
    clock.ms += 60_000
    assert (await find(access, text, "d1")).device_secret == NO_DEVICE
    assert (await find(access, new, "d1")).device_secret == OWN_DEVICE


async def test_a_second_rotation_does_not_prolong_the_overlap_of_the_first(
    db: Database, access: Access, acme: int, clock: Clock
) -> None:
    oldest = await add_secret(db, access, "acme", "d1")
    await run(db, revoke_secrets("acme", "d1", access.now_ms() + 60_000))
    await run(db, revoke_secrets("acme", "d1", access.now_ms() + 900_000))
    clock.ms += 61_000
    assert (await find(access, oldest, "d1")).device_secret == NO_DEVICE


async def test_a_new_weak_secret_replaces_the_one_before(
    db: Database, access: Access, acme: int
) -> None:
    await add_secret(db, access, "acme", "d1", text="AAA")
    await add_secret(db, access, "acme", "d1", text="BBB")
    assert (await find(access, "AAA", "d1")).device_secret == NO_DEVICE
    assert (await find(access, "BBB", "d1")).device_secret == OWN_DEVICE


async def test_a_token_is_found_with_its_role_and_the_role_of_its_holder(
    access: Access, recorder: Recorder, acme: int
) -> None:
    user = await add_member(recorder, acme, "a@b.example", "admin")
    token = await issue_token(recorder, acme, user, "viewer")
    found = await find(access, token.text, "d1")
    expected = ResolvedCredential(
        acme, NO_DEVICE, None, token.token.token_id, user, "acme", "viewer", "admin"
    )
    assert found == expected


async def find_project(access: Access, text: str, device: str | None) -> ResolvedCredential:
    return await access.find_project(text, device, address="10.0.0.1")


async def test_a_strong_secret_finds_the_project_of_its_device(
    db: Database, access: Access, acme: int
) -> None:
    secret = await add_secret(db, access, "acme", "d1")
    found = await find_project(access, secret, "d1")
    assert (found.project, found.log_id, found.device_secret) == ("acme", acme, OWN_DEVICE)
    elsewhere = await find_project(access, secret, "d2")
    assert (elsewhere.project, elsewhere.device_secret) == (None, OTHER_DEVICE)


async def test_a_secret_that_two_projects_know_for_one_name_finds_neither(
    db: Database, access: Access, acme: int
) -> None:
    await add_project(db, access, "other")
    for project in ("acme", "other"):
        await add_secret(db, access, project, "d1", text="y" * 40)
    found = await find_project(access, "y" * 40, "d1")
    assert (found.project, found.device_secret) == (None, OTHER_DEVICE)


async def test_a_weak_secret_finds_no_project(db: Database, access: Access, acme: int) -> None:
    await add_secret(db, access, "acme", "d1", text="AAA")
    found = await find_project(access, "AAA", "d1")
    assert (found.project, found.device_secret) == (None, NO_DEVICE)


async def test_a_token_finds_its_own_project(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    other = await add_project(db, access, "other")
    for log_id in (acme, other):
        user = await add_member(recorder, log_id, "a@b.example", "operator")
    token = await issue_token(recorder, acme, user, "gateway")
    for device in ("d1", None):
        found = await find_project(access, token.text, device)
        assert (found.project, found.log_id, found.token_role) == ("acme", acme, "gateway")
        assert found.member_role == "operator"
    await recorder.act(acme, commands.revoke_token(token.token.token_id, actor="system"))
    assert (await find_project(access, token.text, "d1")).project is None


async def test_a_login_finds_the_only_project_of_its_holder(
    db: Database, access: Access, recorder: Recorder, acme: int
) -> None:
    user = await add_member(recorder, acme, "a@b.example", "operator")
    await run(db, logins.insert_login(user, "ftt_login", access.now_ms(), access.now_ms() + 1_000))
    assert (await find_project(access, "ftt_login", None)).project == "acme"
    other = await add_project(db, access, "other")
    await add_member(recorder, other, "a@b.example", "operator")
    found = await find_project(access, "ftt_login", None)
    assert (found.project, found.log_id, found.actor_id) == (None, None, user)


async def test_a_digest_is_found_as_the_text_that_it_stands_for(
    db: Database, access: Access, acme: int
) -> None:
    key = SealedSecret("d1", "k_1", "key:1")
    await run(db, insert_secrets("acme", [key], access.now_ms()))
    found = await access.find("a.b.c", "acme", "d1", address="", digest="key:1")
    assert found.device_secret == OWN_DEVICE
    assert (await find(access, "key:1", "d1")).device_secret == NO_DEVICE


async def test_a_revoked_token_is_unknown_on_the_next_request(
    access: Access, recorder: Recorder, acme: int
) -> None:
    user = await add_member(recorder, acme, "a@b.example", "admin")
    token = await issue_token(recorder, acme, user, "viewer")
    revoke = commands.revoke_token(token.token.token_id, actor="system")
    await recorder.act(acme, revoke)
    assert (await find(access, token.text, None)).token_id is None


async def test_an_expired_token_is_unknown(
    access: Access, recorder: Recorder, acme: int, clock: Clock
) -> None:
    user = await add_member(recorder, acme, "a@b.example", "admin")
    token = await issue_token(recorder, acme, user, "viewer", expires_at_ms=access.now_ms() + 1_000)
    assert (await find(access, token.text, None)).token_id is not None
    clock.ms += 1_000
    assert (await find(access, token.text, None)).token_id is None


async def test_a_changed_role_counts_on_the_next_request(
    access: Access, recorder: Recorder, acme: int
) -> None:
    await add_member(recorder, acme, "boss@b.example", "admin")
    user = await add_member(recorder, acme, "a@b.example", "admin")
    token = await issue_token(recorder, acme, user, "admin")
    await add_member(recorder, acme, "a@b.example", "viewer")
    assert (await find(access, token.text, None)).member_role == "viewer"


async def test_a_login_needs_the_password_of_the_users_own_address(
    access: Access, recorder: Recorder, acme: int
) -> None:
    hashed = await access.hasher.hash("user", "ABC")
    user = await add_member(recorder, acme, "a@b.example", "viewer", password_hash=hashed)
    await add_member(recorder, acme, "without@b.example", "viewer")
    assert await access.login(" A@B.example", "ABC", address="10.0.0.1") == user
    for email, password in (
        ("a@b.example", "ABD"),
        ("without@b.example", "ABC"),
        ("unknown@b.example", "ABC"),
    ):
        assert await access.login(email, password, address="10.0.0.1") is None


async def test_last_seen_times_are_written_at_a_flush_and_never_go_back(
    db: Database, access: Access
) -> None:
    times = Statement("SELECT device, seen_at_ms FROM device_seen ORDER BY device LIMIT 9")
    access.seen.touch("acme", "d1", 5_000)
    access.seen.touch("acme", "d2", 5_000)
    access.seen.touch("acme", "d1", 6_000)
    assert not await db.read(times)
    await access.seen.flush()
    access.seen.touch("acme", "d1", 4_000)
    await access.seen.flush()
    assert [tuple(row) for row in await db.read(times)] == [("d1", 6_000), ("d2", 5_000)]

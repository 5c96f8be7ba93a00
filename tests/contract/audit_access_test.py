"""Members, credentials and the access record are compared with the log; each change is named."""

import asyncio
from pathlib import Path

import pytest

from firmtrail.access import logins, reads, sessions
from firmtrail.access.credentials import new_secret, new_token
from firmtrail.access.device_secrets import seal
from firmtrail.access.lookup import Access
from firmtrail.access.reads import Read, Reads
from firmtrail.access.roles import PERMISSIONS
from firmtrail.audit import access as audited
from firmtrail.audit import logs
from firmtrail.audit.finding import Findings
from firmtrail.commands import access as commands
from firmtrail.commands import access_record, demo, devices, enrolment, move_project
from firmtrail.commands.erase_user import erase_user
from firmtrail.database.database import Database
from firmtrail.events.fleet import DeviceChanged
from firmtrail.events.log import ProjectMoveStarted
from firmtrail.publishing.minimum_sizes import MinimumSizes
from firmtrail.recording.recorder import Recorder
from tests.audits import wrong
from tests.databases import INSTANCE, read, write
from tests.people import add_member, add_project, issue_token

NOW_MS = 1_900_000_000_000


@pytest.fixture
async def acme(db: Database, access: Access, recorder: Recorder) -> int:
    """Makes a project with people, tokens, tokens that a token issued, and devices with one secret
    or two.
    """
    log_id = await add_project(db, access, "acme")
    boss = await add_member(recorder, log_id, "boss@example.org", "admin")
    for name in ("leaver", "erased", "changed"):
        member = await add_member(recorder, log_id, f"{name}@example.org", "operator")
        await issue_token(recorder, log_id, member, "operator")
        if name == "leaver":
            await recorder.act(log_id, commands.remove_member(member, actor="system"))
        elif name == "erased":
            await erase_user(db, recorder, member, actor="system")
        else:
            await add_member(recorder, log_id, "changed@example.org", "viewer")
    parent = await issue_token(recorder, log_id, boss, "admin", expires_at_ms=NOW_MS)
    for issuer in (parent, await issue_token(recorder, log_id, boss, "admin")):
        issued_by = issuer.token.token_id
        wanted = commands.TokenRequest(boss, "child", "viewer", issued_by=issued_by)
        issue = commands.issue_token(wanted, PERMISSIONS["admin"], actor=f"token/{issued_by}")
        await recorder.act(log_id, issue)
    await recorder.act(log_id, commands.revoke_token(issued_by, actor="system"))
    registering = commands.TokenRequest(boss, "joins", "gateway", model="m", registers_max=3)
    issue = commands.issue_token(registering, PERMISSIONS["admin"], actor="system")
    token_id = (await recorder.act(log_id, issue)).token.token_id
    joiner = enrolment.Joiner(f"gateway/{token_id}", token_id)
    await recorder.act(log_id, enrolment.join(["j1", "j2"], joiner))
    await recorder.act(log_id, enrolment.offer_key("j1", "a" * 64, joiner))
    await add_devices(access, recorder, log_id)
    return log_id


async def add_devices(access: Access, recorder: Recorder, log_id: int) -> None:
    names = ("d1", "d2", "d3", "d4", "weak")
    pairs = [(name, "AAA" if name == "weak" else new_secret()) for name in names]
    wanted = [devices.DeviceRegistration(secret) for secret in await seal(access.hasher, pairs)]
    register = devices.register(wanted, actor="system")
    await recorder.act(log_id, register)
    for name, overlap_s in (("d2", 600), ("d2", 900), ("d3", 0), ("weak", 600)):
        [secret] = await seal(access.hasher, [(name, new_secret())])
        rotate = devices.rotate_secret(secret, overlap_s=overlap_s, actor="system")
        await recorder.act(log_id, rotate)
    for gone in (True, False):
        [secret] = await seal(access.hasher, [("d4", new_secret())])
        change = devices.WantedChange(DeviceChanged(), decommissioned=gone)
        await recorder.act(log_id, devices.change("d4", change, secret=secret, actor="system"))
    again = await seal(access.hasher, [("d1", new_secret())])
    registration = [devices.DeviceRegistration(again[0])]
    await recorder.act(log_id, devices.register_or_reissue(registration, actor="system"))


async def test_the_effects_of_commands_agree_with_the_log(acme: int, database_url: str) -> None:
    assert await wrong(database_url) == []


async def test_a_demo_that_was_populated_again_agrees_with_its_logs(
    db: Database, access: Access, recorder: Recorder, database_url: str
) -> None:
    for number in range(3):
        log_id = await access.project("demo")
        if number:
            assert log_id is not None
            name = f"n{number}@example.org"
            member = await add_member(recorder, log_id, name, "viewer")
            await issue_token(recorder, log_id, member, "viewer")
            await asyncio.sleep(demo.PACE_S)
        await demo.populate(db, access.hasher, "demo", log_id)
    assert await wrong(database_url, project="demo") == []


async def test_a_whole_database_agrees_with_its_logs(database_url: str, files: Path) -> None:
    for project in ("acme", "zenith"):
        assert await wrong(database_url, project=project) == []


TOKEN = "(digest, token_id, actor_id, project, role, name, created_at_ms, expires_at_ms)"
SECRET = "(digest, project, device, secret_id, created_at_ms)"
ANY_MEMBER = "(SELECT min(actor_id) FROM members WHERE role = 'admin')"
LIVING = "revoked_at_ms IS NULL AND issued_by IS NULL"
CHANGES = [  # a statement, and the place where it is found
    ("INSERT INTO members VALUES ('acme', 'u_planted', 'admin')", "members (u_planted)"),
    ("UPDATE members SET role = 'admin' WHERE role = 'viewer'", "members (u_"),
    ("UPDATE members SET role = 'admin' WHERE role IS NULL", "members (u_"),
    ("UPDATE members SET role = NULL WHERE role = 'viewer'", "members (u_"),
    ("DELETE FROM members WHERE role = 'viewer'", "members (u_"),
    ("DELETE FROM members WHERE role IS NULL", "members (u_"),
    (
        f"INSERT INTO tokens {TOKEN} VALUES ('x', 't_planted', {ANY_MEMBER}, 'acme', 'admin', '', "
        "0, NULL)",
        "tokens (t_planted)",
    ),
    (
        f"INSERT INTO tokens {TOKEN} VALUES ('x', 't_planted', {ANY_MEMBER}, NULL, 'admin', '', "
        "0, 1)",
        "tokens (t_planted)",
    ),
    (
        f"INSERT INTO tokens {TOKEN} VALUES ('x', 't_planted', {ANY_MEMBER}, NULL, NULL, 'login', "
        "0, NULL)",
        "tokens (t_planted)",
    ),
    (
        f"INSERT INTO tokens {TOKEN} VALUES ('x', 't_planted', {ANY_MEMBER}, NULL, NULL, 'login', "
        "0, 604800001)",
        "tokens (t_planted)",
    ),
    (
        f"INSERT INTO tokens {TOKEN} VALUES ('x', 't_planted', {ANY_MEMBER}, NULL, NULL, 'login', "
        "99999999999999, 99999999999999)",
        "tokens (t_planted)",
    ),
    (
        "INSERT INTO projects (project, log_id, created_at_ms) "
        "SELECT 'second-name', log_id, 0 FROM projects WHERE project = 'acme'",
        "projects (second-name)",
    ),
    (f"DELETE FROM tokens WHERE {LIVING} AND role = 'admin'", "tokens (t_"),
    ("UPDATE tokens SET role = 'admin' WHERE role = 'viewer'", "tokens (t_"),
    ("UPDATE tokens SET expires_at_ms = NULL WHERE expires_at_ms IS NOT NULL", "tokens (t_"),
    ("UPDATE tokens SET expires_at_ms = 1 WHERE expires_at_ms IS NULL", "tokens (t_"),
    ("UPDATE tokens SET revoked_at_ms = NULL WHERE revoked_at_ms IS NOT NULL", "tokens (t_"),
    ("UPDATE tokens SET revoked_at_ms = 1 WHERE revoked_at_ms IS NULL", "tokens (t_"),
    ("UPDATE tokens SET actor_id = 'u_other'", "tokens (t_"),
    ("UPDATE tokens SET issued_by = NULL", "tokens (t_"),
    ("UPDATE tokens SET project = 'other' WHERE role = 'viewer'", "tokens (t_"),
    ("UPDATE tokens SET registers = 1 WHERE registers = 0", "tokens (t_"),
    ("UPDATE tokens SET registers_max = 99 WHERE registers = 1", "tokens (t_"),
    ("UPDATE tokens SET registered = 0 WHERE registers = 1", "tokens (t_"),
    ("UPDATE tokens SET model = 'n' WHERE registers = 1", "tokens (t_"),
    (
        f"INSERT INTO device_secrets {SECRET} VALUES ('x', 'acme', 'd1', 'k_planted', 0)",
        "device_secrets (d1, k_planted)",
    ),
    (
        f"INSERT INTO device_secrets {SECRET} VALUES ('x', 'acme', 'new', 'k_planted', 0)",
        "device_secrets (new, k_planted)",
    ),
    (
        f"INSERT INTO device_secrets {SECRET} "
        "SELECT 'x', project, device, secret_id, 0 FROM device_secrets WHERE device = 'd1'",
        "device_secrets (d1, k_",
    ),
    ("DELETE FROM device_secrets WHERE device = 'd1'", "device_secrets (d1, k_"),
    ("DELETE FROM device_secrets WHERE expires_at_ms IS NOT NULL", "device_secrets (d2, k_"),
    ("UPDATE device_secrets SET secret_id = 'k_x' WHERE device = 'd3'", "device_secrets (d3, k_x)"),
    (
        "UPDATE device_secrets SET expires_at_ms = NULL WHERE device = 'weak'",
        "device_secrets (weak, k_",
    ),
    ("UPDATE device_secrets SET expires_at_ms = 1 WHERE device = 'd3'", "device_secrets (d3, k_"),
    ("UPDATE device_secrets SET device = 'd9' WHERE device = 'd3'", "device_secrets (d9, k_"),
]
COPIED = ("members", "tokens", "device_secrets", "projects")


async def compared(db: Database) -> list[tuple[str, str]]:
    """Returns (where, what) of the part of a replay that compares members and credentials."""
    findings = Findings()
    of_project = await logs.of_project(db, INSTANCE, "acme", findings)
    await audited.replay(f"{INSTANCE}/acme", "acme", of_project, findings)
    return [(each.where, each.what) for each in findings.kept]


async def test_every_change_of_members_and_credentials_is_found_and_named(
    db: Database, acme: int, database_url: str
) -> None:
    for table in COPIED:
        await write(db, f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    missed, audited_whole = [], set[str]()
    for change, where in CHANGES:
        await write(db, change)
        found, changed = await compared(db), where.partition(" ")[0]
        if not any(each.startswith(where) for each, _ in found):
            missed.append((change, found))
        if changed not in audited_whole:
            audited_whole.add(changed)
            assert await wrong(database_url) == found
        for table in COPIED:
            await write(db, f"DELETE FROM {table}")
            await write(db, f"INSERT INTO {table} SELECT * FROM kept_{table}")
    assert missed == []
    assert await wrong(database_url) == []
    assert audited_whole == set(COPIED)


async def test_a_login_a_session_and_a_link_give_no_finding(
    db: Database, access: Access, acme: int, database_url: str
) -> None:
    [[boss]] = await read(db, "SELECT actor_id FROM members WHERE role = 'admin'")
    async with db.transaction() as tx:
        now_ms = access.now_ms()
        login = logins.insert_login(boss, new_token(), now_ms, now_ms + logins.LOGIN_MS)
        session = sessions.begin(boss, new_token(), now_ms)
        link = sessions.link(boss, new_token(), now_ms)
        await tx.run(login, session, link)
    assert await wrong(database_url) == []


def new_read(n: int, project: str = "acme") -> Read:
    return Read(project, 1_000 + n, f"r{n:04}", "user/u_1", "/events", '{"log":1}')


@pytest.fixture
async def sealed(db: Database, recorder: Recorder, acme: int) -> int:
    """Returns the project's log, which sealed 5 and then 9 of 12 records."""
    record = Reads(db)
    for start, stop in ((0, 5), (5, 9)):
        await asyncio.gather(*(record.add(new_read(n)) for n in range(start, stop)))
        await recorder.act(acme, access_record.seal())
        await recorder.act(acme, access_record.seal())  # records nothing
    await asyncio.gather(*(record.add(new_read(n)) for n in range(9, 12)))
    return acme


async def test_a_record_that_only_grew_agrees_with_its_seals(
    db: Database, sealed: int, database_url: str
) -> None:
    assert await wrong(database_url, verify=True) == []
    text = "SELECT entry FROM events WHERE stream = 'access-record/acme' ORDER BY position"
    assert [
        f'"size":{size},' in entry[0]
        for size, entry in zip((5, 9), await read(db, text), strict=True)
    ] == [True, True]


RECORD = "access_record (seq, project, at_ms, request_id, actor, path, asked)"
TAMPERED = [  # statements, and the place where they are found
    (["DELETE FROM access_record"], "access_record (rows 0 to 4)"),
    (["DELETE FROM access_record", "DELETE FROM access_heads"], "access_heads"),
    (["DELETE FROM access_record WHERE seq = 3"], "access_record (row 3)"),
    (["DELETE FROM access_record WHERE seq = 11"], "access_record (row 11)"),
    (["DELETE FROM access_record WHERE seq >= 7"], "access_record (rows 7 to 8)"),
    (
        [
            "DELETE FROM access_record WHERE seq >= 7",
            "UPDATE access_heads SET size = 7, sealed = 5",
        ],
        "access_heads (size)",
    ),
    (
        [
            "DELETE FROM access_record WHERE seq = 3",
            "UPDATE access_record SET seq = seq - 1000 WHERE seq > 3",
            "UPDATE access_record SET seq = seq + 999 WHERE seq < 0",
        ],
        "access_record (rows 0 to 4)",
    ),
    (["UPDATE access_record SET actor = 'user/u_2' WHERE seq = 2"], "access_record (rows 0 to 4)"),
    (["UPDATE access_record SET at_ms = 7 WHERE seq = 6"], "access_record (rows 5 to 8)"),
    (["UPDATE access_record SET path = '/x' WHERE seq = 10"], "access_record (rows 9 to 11)"),
    (["UPDATE access_record SET asked = '{}' WHERE seq = 8"], "access_record (rows 5 to 8)"),
    (["UPDATE access_record SET request_id = 'z' WHERE seq = 0"], "access_record (rows 0 to 4)"),
    (["UPDATE access_record SET project = 'other' WHERE seq = 4"], "access_record (row 4)"),
    (["UPDATE access_record SET seq = NULL WHERE seq = 4"], "access_record (request r0004)"),
    (
        [
            "UPDATE access_record SET seq = 99 WHERE seq = 1",
            "UPDATE access_record SET seq = 1 WHERE seq = 2",
            "UPDATE access_record SET seq = 2 WHERE seq = 99",
        ],
        "access_record (rows 0 to 4)",
    ),
    (
        [f"INSERT INTO {RECORD} VALUES (12, 'acme', 1, 'x', 'user/u_2', '/', '{{}}')"],
        "access_record (row 12)",
    ),
    (
        [f"INSERT INTO {RECORD} VALUES (NULL, 'acme', 1, 'x', 'user/u_2', '/', '{{}}')"],
        "access_record (request x)",
    ),
    (["UPDATE access_heads SET head = 'x'"], "access_record (rows 9 to 11)"),
    (["UPDATE access_heads SET sealed = 12"], "access_heads (sealed)"),
    (["DELETE FROM access_heads"], "access_heads"),
]


async def test_every_change_of_the_access_record_is_found_and_named(
    db: Database, sealed: int, database_url: str
) -> None:
    tables = ("access_record", "access_heads")
    for table in tables:
        await write(db, f"CREATE TABLE kept_{table} AS SELECT * FROM {table}")
    missed = []
    for statements, where in TAMPERED:
        for statement in statements:
            await write(db, statement)
        found = await wrong(database_url, verify=True)
        if where not in {each for each, _ in found}:
            missed.append((statements, found))
        for table in tables:
            await write(db, f"DELETE FROM {table}")
            await write(db, f"INSERT INTO {table} SELECT * FROM kept_{table}")
    assert missed == []
    assert await wrong(database_url, verify=True) == []


async def test_parallel_reads_of_two_servers_and_seals_form_one_chain(
    db: Database, recorder: Recorder, access: Access, acme: int, database_url: str
) -> None:
    await add_project(db, access, "other")
    servers, numbers = [Reads(db), Reads(db)], range(120)

    async def read_some(n: int) -> None:
        await servers[n % 2].add(new_read(n, "acme" if n % 3 else "other"))
        if n % 10 == 0:
            await recorder.act(acme, access_record.seal())

    await asyncio.gather(*(read_some(n) for n in numbers))
    for project in ("acme", "other"):
        assert await wrong(database_url, verify=True, project=project) == []
    assert not await servers[0].has_grown("nobodys")
    await recorder.act(acme, access_record.seal())
    assert not await servers[0].has_grown("acme")
    assert await servers[0].has_grown("other")


async def test_a_log_is_sealed_once_its_oldest_unsealed_record_is_old_enough(
    db: Database, recorder: Recorder, acme: int
) -> None:
    record = Reads(db)
    await record.add(new_read(1))
    await record.add(new_read(5))
    assert await reads.logs_to_seal(db, 1_000) == []
    assert await reads.logs_to_seal(db, 1_001) == [acme]
    await recorder.act(acme, access_record.seal())
    assert await reads.logs_to_seal(db, 9_000) == []
    await record.add(new_read(7))
    assert await reads.logs_to_seal(db, 1_006) == []
    assert await reads.logs_to_seal(db, 1_007) == [acme]


async def test_a_project_that_moves_is_not_sealed_again(
    db: Database, recorder: Recorder, acme: int
) -> None:
    wanted = ProjectMoveStarted("eu", "https://eu.example")
    await move_project.start(db, recorder, acme, wanted=wanted, actor="system")
    await Reads(db).add(new_read(1))
    assert await reads.logs_to_seal(db, 9_000) == []
    await move_project.finish(db, acme)
    assert await reads.logs_to_seal(db, 9_000) == []
    await move_project.undo(db, acme, MinimumSizes(), "system")
    assert await reads.logs_to_seal(db, 9_000) == [acme]

"""Checks the Postgres roles: the service only adds to a log, and the auditor only reads."""

import asyncio
from itertools import count
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from aiohttp import ClientSession

from firmtrail.publishing import signing_key
from firmtrail.schema import migrations
from firmtrail.schema.migrate import VERSIONS, Roles, migrate
from tests.databases import INSTANCE, create_role, migrating, opened, write
from tests.end_to_end.command import firmtrail, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.site import P, get, new_site, post
from tests.filled import fill
from tests.postgres_server import PostgresServer

SERVICE, AUDITOR = "least_service", "least_auditor"
"""Roles belong to a server, which other tests share; those of the composition are made there."""
APPEND_ONLY = ("events", "subtrees", "checkpoints", "continued")
SECRET = ("users", "members", "tokens", "device_secrets", "device_seen", "idempotency_keys")


READ = ("devices", "devices/d1/history", "versions", "events", "members", "log/checkpoint")


class Urls(NamedTuple):
    """Holds the URLs of one database for its owner and the two roles."""

    owner: str
    service: str
    auditor: str


_numbers = count()


async def granted(postgres: PostgresServer) -> Urls:
    owner = postgres.create_database(f"granted_{next(_numbers)}")
    for role in (SERVICE, AUDITOR):
        await create_role(owner, role)
    await migrate(migrating(owner), INSTANCE, Roles(SERVICE, AUDITOR))
    return Urls(owner, *(owner.replace("postgres@", f"{role}@") for role in (SERVICE, AUDITOR)))


COMING = """
from alembic import op
revision, down_revision = "9001", "HEAD"
SERVICE_GRANTS = (("SELECT, INSERT, UPDATE", "coming"),)
AUDITOR_GRANTS = (("SELECT", "coming"),)
def upgrade():
    op.execute("CREATE TABLE coming (position bigint)")
"""


@pytest.fixture(scope="module")
async def urls(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Urls:
    """Fills a database as the role that serves: records, publishes and continues logs."""
    urls = await granted(postgres)
    async with opened(urls.service) as db:
        await fill(db, tmp_path_factory.getbasetemp() / "least_privilege")
    return urls


def test_a_role_that_only_reads_can_audit(
    urls: Urls, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stem = tmp_path_factory.getbasetemp() / "least_privilege"
    files = ("--signing-key-file", f"{stem}.key", "--checkpoints-file", f"{stem}.checkpoints")
    for command in ("verify", "replay"):
        done = in_process(urls.auditor, *files, "audit", command, "--project", "acme")
        assert done.exit_code == 0, done.out + done.said


async def test_a_revision_grants_what_its_own_tables_need(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    urls = await granted(postgres)
    (tmp_path / "9001_coming.py").write_text(COMING.replace("HEAD", migrations.HEAD))
    folders = (VERSIONS, tmp_path)
    await migrate(migrating(urls.owner), INSTANCE, Roles(SERVICE, AUDITOR), folders=folders)
    connection = await asyncpg.connect(urls.owner)
    asked = [
        (role, privilege)
        for role in (SERVICE, AUDITOR)
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")
    ]
    may = "SELECT has_table_privilege($1, 'coming', $2)"
    allowed = [each for each in asked if await connection.fetchval(may, *each)]
    await connection.close()
    service = [(SERVICE, privilege) for privilege in ("SELECT", "INSERT", "UPDATE")]
    assert allowed == [*service, (AUDITOR, "SELECT")]


async def test_the_service_serves_as_its_role(
    postgres: PostgresServer, serve: Serve, tmp_path: Path
) -> None:
    urls = await granted(postgres)
    site = await new_site(urls.service, ["d1", "d2"])
    key, checkpoints = tmp_path / "key", tmp_path / "checkpoints"
    signing_key.create(key)
    files = ("--signing-key-file", str(key), "--checkpoints-file", str(checkpoints))
    server = serve(urls.service, *files)
    async with ClientSession() as session:
        url = f"{server.url}{P}"
        report = f"{url}/devices/d1/reports"
        sent = await post(session, report, site.secrets["d1"], {"version": "1.0.0"})
        assert sent.status == 201
        await asyncio.sleep(1)  # until its checkpoint is published
        for path in READ:
            assert (await get(session, f"{url}/{path}", site.admin)).status == 200, path
        assert (await get(session, f"{server.url}/readyz")).status == 200


CHANGES = [
    text.format(table=table)
    for table in APPEND_ONLY
    for text in (
        "UPDATE {table} SET log_id = 9",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
        "DROP TABLE {table}",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "ALTER TABLE {table} ADD COLUMN mine bigint",
    )
]


async def refused(url: str, texts: list[str]) -> list[str]:
    """Returns the statements that Postgres did not refuse for lack of privilege."""
    connection = await asyncpg.connect(url)
    done = []
    for text in texts:
        try:
            await connection.execute(text)
        except asyncpg.InsufficientPrivilegeError:
            continue
        except asyncpg.PostgresError as error:
            done.append(f"{text}: {error}")
        else:
            done.append(text)
    await connection.close()
    return done


async def test_the_role_that_serves_can_not_change_a_log(urls: Urls) -> None:
    others = [
        "SET session_replication_role = replica",
        "UPDATE texts SET text = 'x'",
        "DELETE FROM log_heads",
        "DELETE FROM views",
        "DELETE FROM users",
        "UPDATE instance SET name = 'x'",
        "UPDATE alembic_version SET version_num = 'x'",
        "CREATE TABLE mine (a bigint)",
        "DROP FUNCTION refuse",
    ]
    assert await refused(urls.service, [*CHANGES, *others]) == []


async def test_the_role_that_audits_reads_no_secret_and_writes_nothing(urls: Urls) -> None:
    tables = (*APPEND_ONLY, "texts", "log_heads", "views", "device_current", "projects", "instance")
    texts = ("INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}")
    writes = [text.format(table) for table in tables for text in texts]
    reads = [f"SELECT count(*) FROM {table}" for table in SECRET]
    assert await refused(urls.auditor, [*CHANGES, *writes, *reads]) == []


@pytest.mark.parametrize(
    "command",
    [("device", "list", "--project", "acme"), ("serve", "--no-publishing", "--port", "0")],
)
def test_a_role_that_only_reads_does_not_serve(urls: Urls, command: tuple[str, ...]) -> None:
    done = in_process(urls.auditor, *command)
    assert done.exit_code == 2
    assert done.said.startswith("Error: The role of "), done.said
    assert done.said.count("\n") == 1, "there is no stack trace"


def test_a_role_that_only_reads_learns_what_it_may_not(
    urls: Urls, postgres: PostgresServer
) -> None:
    checked = in_process(urls.auditor, "doctor")
    assert checked.exit_code == 1
    assert "check as the role that serves" in " ".join(checked.out.split())
    there = asyncio.run(granted(postgres))
    asyncio.run(rename(there.owner))
    to = ("--to", there.service, "--redirect-to", "https://eu.example")
    moved = in_process(urls.auditor, "project", "move", "acme", *to)
    assert moved.exit_code == 2
    assert "The role of --database may not do that" in moved.said, moved.said


async def rename(url: str) -> None:
    async with opened(url) as db:
        await write(db, "UPDATE instance SET name = 'eu'")


async def test_the_role_of_a_server_is_enough_to_move_a_project(
    urls: Urls, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stem = tmp_path_factory.getbasetemp() / "least_privilege"
    files = ("--signing-key-file", f"{stem}.key", "--checkpoints-file", f"{stem}.checkpoints")
    there = await granted(postgres)
    await rename(there.owner)
    to, address = ("zenith", "--to", there.service), ("--redirect-to", "https://eu.example")
    for options in (address, ("--undo",), address):
        done = await asyncio.to_thread(
            firmtrail, urls.service, *files, "project", "move", *to, *options
        )
        assert done.exit_code == 0, done.said
    for command in ("verify", "replay"):
        wanted = ("audit", command, "--project", "zenith")
        audited = await asyncio.to_thread(firmtrail, there.auditor, *wanted)
        assert audited.exit_code == 0, audited.out + audited.said

"""Through PgBouncer the promises are the same, whether it pools sessions or transactions."""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from firmtrail.database.database import Statement, Unavailable
from firmtrail.database.postgres import _SESSION, Postgres
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks
from firmtrail.schema.migrate import migrate
from tests.databases import INSTANCE, migrating, new_log, read
from tests.fleet import receipts, register, report
from tests.postgres_server import _unprivileged

_SETTINGS = ", ".join(f"current_setting('{name}')" for name in _SESSION)


@pytest.fixture
def bouncer(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """The database's URL through PgBouncer; the parameter is its pool mode."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "The tests need PgBouncer: apt-get install pgbouncer"
    parts = urlsplit(postgres_url)
    server = parse_qs(parts.query)["host"][0]
    folder = Path(server) / f"bouncer-{tmp_path.name}"
    folder.mkdir()
    (folder / "ini").write_text(
        f"[databases]\n* = host={server} port=5432\n"
        f"[pgbouncer]\nunix_socket_dir = {folder}\nlisten_addr =\nlisten_port = 6432\n"
        f"auth_type = trust\nauth_file = {folder}/users\npool_mode = {request.param}\n"
        f"default_pool_size = 3\nlogfile = {folder}/log\npidfile = {folder}/pid\n"
    )
    (folder / "users").write_text('"postgres" ""\n')
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, *folder.iterdir()):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    process = subprocess.Popen([program, "-q", folder / "ini"], **_unprivileged())
    try:
        deadline = time.monotonic() + 20
        while not (folder / ".s.PGSQL.6432").exists() and time.monotonic() < deadline:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.02)
        yield postgres_url.replace(f"host={server}&port=5432", f"host={folder}&port=6432")
    finally:
        process.terminate()
        process.wait()


async def settings(db: Postgres) -> list[str]:
    [found] = await read(db, f"SELECT {_SETTINGS}")
    return list(found)


async def works(db: Postgres) -> None:
    log_id = await new_log(db)
    recorder = Recorder(db)
    await register(recorder, log_id, "d1", "d2")
    [receipt] = await receipts(recorder, log_id, report(report_id="a", detail="text"))
    assert receipt.position == 2
    async with db.snapshot() as snapshot:
        [[count]] = await snapshot.read(Statement("SELECT count(*) FROM events"))
        assert count == 3
    await recorder.close()


@pytest.mark.parametrize(
    ("bouncer", "is_shared"),
    [("session", False), ("session", True), ("transaction", True)],
    indirect=["bouncer"],
)
async def test_a_service_uses_its_own_settings_through_a_pooler(
    bouncer: str, is_shared: bool, postgres_url: str
) -> None:
    database = urlsplit(postgres_url).path[1:]
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
    expected = [
        await connection.fetchval("SELECT set_config($1, $2, false)", name, value)
        for name, value in _SESSION.items()
    ]
    await connection.close()
    db = await Postgres.open(bouncer, is_shared=is_shared)
    try:
        for _ in range(3):  # a returned connection keeps them
            assert await settings(db) == expected
        assert await checks.postgres_synchronous_commit(db) == "on"
        async with db.transaction() as tx:
            [[row]] = await tx.run(Statement(f"SELECT {_SETTINGS}"))
            assert list(row) == expected
        await works(db)
    finally:
        await db.close()


@pytest.mark.parametrize("bouncer", ["session", "transaction"], indirect=True)
async def test_migrate_works_through_a_pooler(bouncer: str) -> None:
    await migrate(migrating(bouncer), INSTANCE)


async def test_a_connection_that_commits_without_syncing_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firmtrail.database.postgres._SET_SESSION", "SET synchronous_commit = off")
    with pytest.raises(Unavailable, match="synchronous_commit is off"):
        await Postgres.open(postgres_url)

"""The migration of a coming version does not disturb servers of this version."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from firmtrail.schema import migrations
from tests.databases import INSTANCE, opened, read, write
from tests.end_to_end import ledger
from tests.end_to_end.command import firmtrail, in_process
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import ENVIRONMENT
from tests.end_to_end.site import get
from tests.end_to_end.truth import untruths

pytestmark = pytest.mark.each_postgres

WRITERS = 3
ROWS = 160
"""Takes several seconds to fill, so that the first migration is killed long before its end."""

EXPAND = """
from alembic import op
revision, down_revision = "9001", "{head}"
compatible_from = "{compatible_from}"
def upgrade():
    for table in ("device_history", "device_current", "log_heads", "events"):
        op.execute(f"ALTER TABLE {{table}} ADD COLUMN coming bigint")
"""

FILL = """
from firmtrail.schema.migrations import steps
revision, down_revision = "9002", "9001"
compatible_from = "{compatible_from}"
SOME = (
    "UPDATE device_seen SET seen_at_ms = 7 WHERE project = 'filled' AND device IN ("
    "SELECT device FROM device_seen WHERE project = 'filled' AND seen_at_ms = 1 "
    "AND (SELECT pg_sleep(0.02)) IS NOT NULL ORDER BY device LIMIT 8)"
)
def upgrade():
    steps.in_batches("device_seen", SOME)
"""

MIGRATE = """
import asyncio, sys
from pathlib import Path
from firmtrail.database.postgres import migrating
from firmtrail.schema.migrate import VERSIONS, migrate
show = lambda name, done: print(name, done, flush=True)
folders = (VERSIONS, Path(sys.argv[3]))
asyncio.run(migrate(migrating(sys.argv[1]), sys.argv[2], progress=show, folders=folders))
"""


def coming(folder: Path, compatible_from: str) -> Path:
    """Writes the revisions of a coming version; returns their folder."""
    versions = folder / "coming"
    versions.mkdir()
    for name, text in (("9001", EXPAND), ("9002", FILL)):
        script = text.format(compatible_from=compatible_from, head=migrations.HEAD)
        (versions / f"{name}_coming.py").write_text(script)
    return versions


def started(url: str, versions: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", MIGRATE, url, INSTANCE, str(versions)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE)


def migrated(url: str, versions: Path) -> int:
    process = started(url, versions)
    process.communicate()
    return process.returncode


async def filled(url: str) -> int:
    async with opened(url) as db:
        [[count]] = await read(db, "SELECT count(*) FROM device_seen WHERE seen_at_ms = 7")
    return int(count)


async def test_old_servers_keep_serving_while_the_coming_schema_is_made(
    serve: Serve, postgres_url: str, tmp_path: Path
) -> None:
    site, writers = await ledger.new_writers(postgres_url, WRITERS)
    async with opened(postgres_url) as db:
        rows = f"SELECT 'filled', 'd' || n, 1 FROM generate_series(1, {ROWS}) AS n"
        await write(db, f"INSERT INTO device_seen {rows}")
    versions = coming(tmp_path, compatible_from=migrations.HEAD)
    server = serve(postgres_url)
    not_ready: list[int] = []
    async with (
        ledger.session() as session,
        ledger.load(session, writers, server.url),
        watched(session, f"{server.url}/readyz", not_ready),
    ):
        process = started(postgres_url, versions)
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)  # it has begun its batches
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert 0 < await filled(postgres_url) < ROWS
        assert await asyncio.to_thread(migrated, postgres_url, versions) == 0
        assert await filled(postgres_url) == ROWS
        await ledger.until_all_go_on(writers)
    assert not_ready == []
    assert sum(writer.unavailable for writer in writers) == 0
    async with ledger.session() as session:
        await ledger.settle(session, writers, server.url)
    server.kill()
    server.start()  # a server of this version, which knows nothing of the coming schema
    async with ClientSession() as session:
        assert (await get(session, f"{server.url}/readyz")).status == 200
    done = await asyncio.to_thread(firmtrail, postgres_url, "doctor", "--json")
    [schema] = [row for row in done.json if row["check"] == "schema"]
    assert (schema["verdict"], "9002" in schema["found"]) == ("ok", True)
    async with opened(postgres_url) as db:
        coming_view = f"SELECT {site.log_id}, 'coming', 1, 1, 0"
        await write(
            db, f"INSERT INTO views (log_id, name, revision, generation, position) {coming_view}"
        )
    done = await asyncio.to_thread(firmtrail, postgres_url, "audit", "replay", "--project", "acme")
    assert (done.exit_code, "device_history" in done.out) == (1, False)  # secrets without events
    assert "coming" not in done.out
    assert await untruths(site) == []


def test_a_coming_schema_that_is_incompatible_with_this_version_is_refused(
    postgres_url: str, tmp_path: Path
) -> None:
    assert migrated(postgres_url, coming(tmp_path, compatible_from="9001")) == 0
    assert in_process(postgres_url, "serve", "--port", "0").exit_code == 2
    done = in_process(postgres_url, "doctor")
    assert (done.exit_code, "run a newer version" in done.out) == (1, True)
    done = in_process(postgres_url, "migrate")
    assert (done.exit_code, "newer version" in done.said) == (2, True)


@contextlib.asynccontextmanager
async def watched(session: ClientSession, url: str, failures: list[int]) -> AsyncIterator[None]:
    """Collects every status other than 200 that the URL answers."""

    async def look() -> None:
        while True:
            if (status := (await get(session, url)).status) != 200:
                failures.append(status)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

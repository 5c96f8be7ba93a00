"""Adds releases on the command line and with large files, against a real server process."""

import asyncio
import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.databases import migrate_now
from tests.end_to_end.command import firmtrail, in_process, new_project
from tests.end_to_end.conftest import Serve
from tests.postgres_server import PostgresServer

MIB = 1024 * 1024
LARGE_MIB = int(os.environ.get("FIRMTRAIL_TEST_LARGE_MIB", "64"))
GROWTH_MIB_MAX = 40
RELEASES = "/api/v1/projects/acme/releases"
M1 = ("--project", "acme", "--model", "m")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.bin"
    path.write_bytes(bytes(range(256)) * 4000)
    return path


def test_releases_are_added_listed_and_withdrawn_without_a_server(
    tmp_path: Path, file: Path
) -> None:
    database = f"sqlite:///{tmp_path}/a.db"
    migrate_now(database)
    assert in_process(database, "project", "add", "acme").exit_code == 0
    added = firmtrail(
        database,
        *("release", "add", "1.0.0+b.7", *M1, "--notes", "first", "--json"),
        *("--artifact", f"full.bin={file}", "--artifact", str(file)),
    )
    assert added.exit_code == 0, added.said
    assert [each["name"] for each in added.json["artifacts"]] == ["firmware.bin", "full.bin"]
    digest = sha256(file.read_bytes()).hexdigest()
    assert (tmp_path / "a.db.artifacts" / "sha256" / digest[:2] / digest).is_file()
    assert "1.0.0+b.7" in in_process(database, "release", "list", "--project", "acme").out
    withdrawn = in_process(database, "release", "withdraw", "1.0.0+b.7", *M1, "--reason", "bricks")
    assert withdrawn.exit_code == 0
    [shown] = in_process(database, "release", "list", "--project", "acme", "--json").json
    assert (shown["withdrawn"], shown["reason"]) == (True, "bricks")
    assert shown["artifacts"] == added.json["artifacts"]


def test_releases_go_to_a_postgres_server_by_its_url(
    postgres: PostgresServer, serve: Serve, tmp_path: Path, file: Path
) -> None:
    database = postgres.create_database("releases")
    migrate_now(database)
    token = new_project(database)
    url = serve(database, "--artifacts", str(tmp_path / "store")).url
    elsewhere = ("sqlite:///nowhere.db", "release", "add", "1.0.0", *M1)
    by_url = {"FIRMTRAIL_URL": url, "FIRMTRAIL_TOKEN": token}
    assert in_process(*elsewhere, **by_url).exit_code == 0
    again = in_process(*elsewhere, **by_url)
    assert (again.exit_code, "already has a release 1.0.0" in again.said) == (2, True)
    continued = firmtrail(*elsewhere, "--artifact", f"full.bin={file}", **by_url)
    assert continued.exit_code == 0, continued.said
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    refused = in_process(*elsewhere, "--artifact", f"full.bin={other}", **by_url)
    assert (refused.exit_code, "has other bytes" in refused.said) == (2, True)
    assert in_process(*elsewhere, "--url", url).exit_code == 2


def memory_mib(pid: int, what: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [found] = (line for line in lines if line.startswith(what))
    return int(found.split()[1]) / 1024


async def test_a_large_artifact_goes_up_and_down_in_flat_memory(
    serve: Serve, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path}/a.db"
    server = serve(database)
    token = await asyncio.to_thread(new_project, database)
    block = os.urandom(MIB)
    digest = sha256()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(LARGE_MIB):
            digest.update(block)
            yield block

    headers = {"Authorization": f"Bearer {token}"}
    path = f"{RELEASES}/m/1.0.0/artifacts/full.bin"
    async with ClientSession(server.url, headers=headers) as session:
        await session.post(RELEASES, json={"version": "1.0.0", "model": "m"})
        for warm in (b"a", b"b"):
            await session.put(f"{RELEASES}/m/1.0.0/artifacts/{warm.decode()}", data=warm)
        before = memory_mib(server.pid, "VmRSS")
        async with session.put(path, data=body()) as response:
            assert (await response.json())["sha256"] == digest.hexdigest()
        got, size = await downloaded(session, path, cut_after=LARGE_MIB * MIB // 3)
        assert (got, size) == (digest.hexdigest(), LARGE_MIB * MIB)
    growth = memory_mib(server.pid, "VmHWM") - before
    assert growth < GROWTH_MIB_MAX, f"the server grew by {growth:.0f} MiB"


async def downloaded(session: ClientSession, path: str, *, cut_after: int) -> tuple[str, int]:
    """Returns the digest and size of a download that is interrupted once and continued."""
    digest, size, etag = sha256(), 0, ""
    async with session.get(path) as response:
        etag = response.headers["ETag"]
        while size < cut_after:
            chunk = await response.content.readany()
            digest.update(chunk)
            size += len(chunk)
        response.close()
    async with session.get(path, headers={"Range": f"bytes={size}-", "If-Range": etag}) as rest:
        assert rest.status == 206
        async for chunk in rest.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size

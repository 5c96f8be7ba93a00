"""Other people's code reads the log: golang.org/x/mod's sumdb/tlog and note, as Debian packs them.

Apart from the suite, as `make check-go`: Go is no Python package that the lock file could name, and
installing it takes root. Where it is missing, this fails and says how to get it.
"""

import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest

from tests.databases import opened
from tests.end_to_end.archived import await_archived
from tests.end_to_end.audits import audit, static_server, well
from tests.end_to_end.command import firmtrail
from tests.end_to_end.conftest import Serve
from tests.end_to_end.processes import Server
from tests.filled import fill

SOURCES = Path("/usr/share/gocode")
INSTALL = "apt-get install golang-go golang-golang-x-mod-dev"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, compiled."""
    if not shutil.which("go") or not (SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.fail(f"There is no Go with golang.org/x/mod. On Debian: {INSTALL}", pytrace=False)
    folder = tmp_path_factory.mktemp("go")
    go = {"GO111MODULE": "off", "GOPATH": str(SOURCES), "GOCACHE": str(folder / "cache")}
    subprocess.run(
        ["go", "build", "-o", folder / "client", "."],  # noqa: S607 (from the user's path)
        cwd=Path(__file__).parent.parent / "go",
        env=os.environ | go,
        check=True,
    )
    return folder / "client"


@pytest.fixture
async def database(sqlite_url: str) -> str:
    async with opened(sqlite_url) as db:
        await fill(db, Path(sqlite_url.removeprefix("sqlite:///")))
    return sqlite_url


def read(client: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([client, *arguments], capture_output=True, text=True, check=False)


def accepted(client: Path, *arguments: str | Path) -> str:
    """The checkpoint that the client accepted with every entry."""
    done = read(client, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def post_reports(server: Server, token: str, count: int) -> None:
    reports = [{"device": "d2", "version": "3.0.0", "seq": 90_000 + n} for n in range(count)]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(  # noqa: S310 (our own)
        f"{server.url}/api/v1/projects/acme/reports", msgspec.json.encode(reports), headers
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310 (our own)
        assert response.status == 201


def test_go_reads_the_service_and_its_exports_across_growth(
    client: Path, database: str, serve: Serve, tmp_path: Path
) -> None:
    copy, seen = tmp_path / "copy", tmp_path / "seen"
    server = serve(database)
    issued = ("token", "create", "boss@example.org", "--project", "acme")
    token = firmtrail(database, *issued).out.strip()
    log = f"{server.url}/api/v1/projects/acme/log".replace("//", f"//auditor:{token}@", 1)
    well(audit(database, "export", "--project", "acme", copy))
    key = (copy / "key").read_text()
    with static_server(copy) as url:
        seen.write_text(accepted(client, url, key))
        accepted(client, f"{url}/logs/1", (copy / "logs" / "1" / "key").read_text())
        for count in (1, 255, 300):
            post_reports(server, token, count)
            server_checkpoint = _published(client, log, key, seen)
            well(audit(database, "export", "--project", "acme", copy))
            assert accepted(client, url, key, seen) == server_checkpoint
            seen.write_text(server_checkpoint)


def test_go_reads_an_archive_as_it_grows(
    client: Path, database: str, serve: Serve, tmp_path: Path
) -> None:
    archive, seen = tmp_path / "archive", tmp_path / "seen"
    server = serve(database, "--archive", str(archive))
    issued = ("token", "create", "boss@example.org", "--project", "acme")
    token = firmtrail(database, *issued).out.strip()
    await_archived(database, str(archive / "acme" / "logs" / "1"), 257)
    with static_server(archive / "acme" / "logs") as url:
        accepted(client, f"{url}/1", (archive / "acme" / "logs" / "1" / "key").read_text())
        for count, size in ((300, 256), (600, 512)):
            post_reports(server, token, count)
            await_archived(database, str(archive / "acme" / "logs" / "2"), size)
            key = (archive / "acme" / "logs" / "2" / "key").read_text()
            seen.write_text(accepted(client, f"{url}/2", key, *([seen] if seen.exists() else ())))


def _published(client: Path, log: str, key: str, seen: Path) -> str:
    """The service's checkpoint once it is ahead of the one seen before."""
    for _ in range(20):
        note = accepted(client, log, key, seen)
        if note != seen.read_text():
            return note
        time.sleep(0.1)
    raise AssertionError("nothing is published")


@pytest.mark.parametrize("pattern", ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"])
def test_go_refuses_what_was_changed(
    client: Path, database: str, tmp_path: Path, pattern: str
) -> None:
    """What accepts everything would prove nothing."""
    well(audit(database, "export", "--project", "acme", "--log", "1", tmp_path))
    file, key = tmp_path / pattern, (tmp_path / "key").read_text()
    with static_server(tmp_path) as url:
        accepted(client, url, key)
        content = file.read_bytes()
        file.write_bytes(content[:9] + bytes([content[9] ^ 1]) + content[10:])
        assert read(client, url, key).returncode != 0

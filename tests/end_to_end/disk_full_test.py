"""Fills the disk of a running server: writes are refused and reads continue, until there is space
again."""

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

from tests.databases import sqlite_template
from tests.end_to_end import ledger
from tests.end_to_end.conftest import Serve
from tests.end_to_end.ledger import Writer
from tests.end_to_end.limited_pages import sitecustomize as pages
from tests.end_to_end.processes import ENVIRONMENT, children, writer
from tests.end_to_end.site import Entry, P, Site, get, post
from tests.end_to_end.truth import untruths

WRITERS = 3
LEFT_BYTES = 200_000
"""Less than a thousand reports or devices need."""

MOUNT_BYTES = 32 * 1024 * 1024

type Space = tuple[Path, Callable[[int], None], Callable[[int], None]]
"""The database's folder; a function that takes nearly all space from the process; and one that
gives it back."""


@pytest.fixture
def limited(tmp_path: Path) -> Space:
    """Limits the size of files: a write fails with EFBIG."""

    def take(pid: int) -> None:
        size = (tmp_path / "firmtrail.db-wal").stat().st_size
        limit(pid, size + LEFT_BYTES)

    def give_back(pid: int) -> None:
        limit(pid, resource.RLIM_INFINITY)

    def limit(pid: int, size: int) -> None:
        for process in (pid, *children(pid)):
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return tmp_path, take, give_back


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Space]:
    """Fills a file system: a write fails with ENOSPC. Where none can be mounted, SQLite says so
    itself, because the pages of the database are limited."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount and umount and is_mounted(mount, folder):
        yield folder, *filled(folder)
        subprocess.run([umount, "--lazy", folder], check=True)
    else:
        paths = (str(Path(pages.__file__).parent), ENVIRONMENT.get("PYTHONPATH", ""))
        monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield folder, signalled(pages.TAKE), signalled(pages.GIVE_BACK)


def is_mounted(mount: str, folder: Path) -> bool:
    """Mounts a small file system there, if that is allowed."""
    small = ["-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "none"]
    done = subprocess.run([mount, *small, folder], check=False, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def filled(folder: Path) -> tuple[Callable[[int], None], Callable[[int], None]]:
    filler = folder / "filler"

    def take(_: int) -> None:
        free = shutil.disk_usage(folder).free
        filler.write_bytes(b"\0" * max(0, free - LEFT_BYTES))

    def give_back(_: int) -> None:
        filler.unlink()

    return take, give_back


def signalled(number: int) -> Callable[[int], None]:
    def send(pid: int) -> None:
        writing = writer(pid)
        assert writing is not None
        os.kill(writing, number)

    return send


@pytest.mark.parametrize("kind", ["limited", "full"])
async def test_a_full_disk(request: pytest.FixtureRequest, serve: Serve, kind: str) -> None:
    folder, take, give_back = request.getfixturevalue(kind)
    path = folder / "firmtrail.db"
    path.write_bytes(sqlite_template())
    site, writers = await ledger.new_writers(f"sqlite:///{path}", WRITERS)
    server = serve(f"sqlite:///{path}")
    async with ledger.session() as session:
        async with ledger.load(session, writers, server.url):
            await ledger.until_all_go_on(writers)
            take(server.pid)
            await ledger.until_refused(writers)
            await assert_full(session, server.url, site, writers)
            assert ledger.faults(writers, stored(path, site)) == []
            give_back(server.pid)
            await ledger.until_all_go_on(writers)
        await ledger.settle(session, writers, server.url)
    assert server.is_running
    server.kill()
    assert server.tracebacks() == []
    assert await untruths(site) == []


async def assert_full(session: ClientSession, url: str, site: Site, writers: list[Writer]) -> None:
    """Checks that a write without space is refused, and that reads still answer."""
    device = writers[0].devices[0]
    path = f"{url}{P}/devices/{device}"
    reports = [{"version": "1.0.0", "report_id": str(n)} for n in range(1_000)]
    devices = [{"device": f"new-{n}"} for n in range(1_000)]
    refused = [
        await post(session, f"{path}/reports", site.secrets[device], reports),
        await post(session, f"{url}{P}/devices", site.admin, devices),
    ]
    assert [answer.status for answer in refused] == [503, 503]
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    for read in (path, f"{path}/history", f"{url}{P}/versions"):
        assert (await get(session, read, site.admin)).status == 200
    assert (await get(session, f"{url}/healthz")).status == 200
    log = await get(
        session, f"{url}{P}/events", site.admin
    )  # the read itself is recorded, if it fits
    assert log.status in {200, 503}
    assert log.status == 200 or int(log.headers["Retry-After"]) >= 1


def stored(path: Path, site: Site) -> list[Entry]:
    """Reads the log from the file, and checks that each entry is at its position."""
    text = "SELECT position, entry FROM events WHERE log_id = ? ORDER BY position"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found = connection.execute(text, [site.log_id]).fetchall()
    assert [position for position, _ in found] == list(range(len(found)))
    return [msgspec.json.decode(entry, type=Entry) for _, entry in found]

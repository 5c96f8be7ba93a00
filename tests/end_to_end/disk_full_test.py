"""Fills the disk of a running server: writes are refused and reads continue, until there is space
again."""

import contextlib
import os
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

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

type Space = tuple[Callable[[int], None], Callable[[int], None]]
"""A function that takes nearly all space from the process, and one that gives it back."""


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

    return take, give_back


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Space:
    """Limits the pages of the database: SQLite says that the disk is full."""
    paths = (str(Path(pages.__file__).parent), ENVIRONMENT.get("PYTHONPATH", ""))
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join(filter(None, paths)))

    def signalled(number: int) -> Callable[[int], None]:
        def send(pid: int) -> None:
            writing = writer(pid)
            assert writing is not None
            os.kill(writing, number)

        return send

    return signalled(pages.TAKE), signalled(pages.GIVE_BACK)


@pytest.mark.parametrize("kind", ["limited", "full"])
async def test_a_full_disk(
    request: pytest.FixtureRequest, serve: Serve, sqlite_url: str, kind: str
) -> None:
    take, give_back = request.getfixturevalue(kind)
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    site, writers = await ledger.new_writers(sqlite_url, WRITERS)
    server = serve(sqlite_url)
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

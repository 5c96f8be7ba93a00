"""One process locks an embedded file, one connection writes it, and a commit is synced."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from time import monotonic

import pytest

from firmtrail.database import file_lock, sqlite_connection
from firmtrail.database.database import Contended, Database, Given, Statement, Unavailable
from firmtrail.database.file_lock import Locked
from firmtrail.database.sqlite import SQLite, has_wal_reset_bug
from tests.databases import opened, raw, read, write

_FILL = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT 'acme', given.device, 0
FROM given
WHERE TRUE"""
WAIT_MS = 500
_SEEN = "SELECT device FROM device_seen ORDER BY device LIMIT 9"


async def test_a_full_disk_is_unavailable_and_nothing_was_written(sqlite_url: str) -> None:
    async with opened(sqlite_url) as db:
        assert isinstance(db, SQLite)
        await raw(db, "PRAGMA max_page_count=1")  # SQLite keeps the pages that it has
        given = Given("device text", [(f"d{n}" * 500,) for n in range(500)])
        with pytest.raises(Unavailable, match="full"):
            await write_given(db, given)
        assert await read(db, _SEEN) == []
        await raw(db, "PRAGMA max_page_count=1000000")
        await write_given(db, given)
        assert len(await read(db, _SEEN)) == 9


async def write_given(db: Database, given: Given) -> None:
    async with db.transaction() as tx:
        await tx.run(Statement(_FILL, (), given))


async def test_queued_writes_wait_for_a_locked_file_together(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_TIMEOUT_MS", WAIT_MS)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    async with opened(sqlite_url) as db:
        with contextlib.closing(other):
            other.execute("BEGIN IMMEDIATE")
            began = monotonic()
            given = Given("device text", [("d1",)])
            writes = (write_given(db, given) for _ in range(5))
            results = await asyncio.gather(*writes, return_exceptions=True)
            waited_ms = (monotonic() - began) * 1000
        assert [type(each) for each in results] == [Contended] * 5
        assert WAIT_MS <= waited_ms < 2 * WAIT_MS
        await write_given(db, given)
        assert await read(db, _SEEN) == [["d1"]]


async def test_a_reading_connection_to_an_embedded_file_cannot_write(sqlite_url: str) -> None:
    async with opened(sqlite_url) as db:
        with pytest.raises(Unavailable, match="readonly"):
            await read(db, "DELETE FROM device_seen")


async def test_only_its_owner_can_read_the_lock_file(sqlite_url: str) -> None:
    async with opened(sqlite_url):
        assert mode_of(Path(f"{sqlite_url.removeprefix('sqlite:///')}.lock")) == 0o600


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_only_one_process_can_open_an_embedded_file(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    async with opened(sqlite_url):
        with pytest.raises(Locked):
            await SQLite.open(path)
    async with opened(sqlite_url) as db:
        assert await read(db, _SEEN) == []


async def test_an_embedded_commit_is_synced(sqlite_url: str) -> None:
    async with opened(sqlite_url) as db:
        assert isinstance(db, SQLite)
        assert await raw(db, "PRAGMA journal_mode") == [("wal",)]
        assert await raw(db, "PRAGMA synchronous") == [(2,)]


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 9), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_the_sqlite_versions_that_can_lose_a_commit_are_known(
    version: tuple[int, int, int], has_bug: bool
) -> None:
    assert has_wal_reset_bug(version) == has_bug


async def test_a_cancelled_reader_stays_cancelled_when_the_file_is_closed(sqlite_url: str) -> None:
    is_reading = asyncio.Event()

    async def look(db: Database) -> None:
        async with db.moment():
            is_reading.set()
            await asyncio.sleep(60)

    async with opened(sqlite_url) as db:
        looking = asyncio.create_task(look(db))
        await is_reading.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def test_a_closed_file_gets_no_new_process_that_writes(tmp_path: Path) -> None:
    db = await SQLite.open(tmp_path / "a.db", script_modules=["firmtrail.access.reads"])
    await db.close()
    with pytest.raises(Unavailable):
        await write(db, "CREATE TABLE late (n bigint)")
    with file_lock.acquire(tmp_path / "a.db"):
        pass


async def test_a_reader_that_can_not_end_its_transaction_says_so(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise Unavailable("disk I/O error")

    async with opened(sqlite_url) as db:
        monkeypatch.setattr(sqlite_connection, "roll_back", fail)
        with pytest.raises(Unavailable, match="disk I/O error"):
            async with db.moment():
                pass

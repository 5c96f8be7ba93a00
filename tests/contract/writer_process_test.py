"""A writing connection in a separate process: calls and answers cross whole, and its end is
known."""

import asyncio
import os
import platform
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from pickle import PicklingError

import msgspec
import pytest
from msgspec.structs import replace

from firmtrail.database import messages, sqlite, sqlite_door
from firmtrail.database.database import (
    Contended,
    NoSuchTable,
    OutcomeUnknown,
    Script,
    Statement,
    Unavailable,
)
from firmtrail.database.file_lock import Locked
from firmtrail.database.sqlite import SQLite
from firmtrail.database.sqlite_door import OwnProcess, command
from firmtrail.database.sqlite_writer import BROKEN, ProcessConnection
from firmtrail.events.fleet import DeviceRegistered
from firmtrail.eventstore import log
from firmtrail.projections.controls import CommittedControls
from firmtrail.publishing.minimum_sizes import LogName, LogRefused
from firmtrail.rebuilding.generations import Build, Busy, Overtaken
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import Recorder
from firmtrail.recording.reports import ReportReceipt
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand
from tests.contract.scripts import (
    COUNT,
    SEEN,
    dying,
    heap_flags,
    malloc_settings,
    process_id,
    seeing,
    unpackable,
    unreadable,
)
from tests.databases import new_log, read, write
from tests.patience import PATIENCE_S

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Says when the kernel gives huge pages: always, where a process asks (madvise), or never."""


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
async def db(path: Path) -> AsyncIterator[SQLite]:
    db = await SQLite.open(path, script_modules=["firmtrail.recording.reports"])
    yield db
    await db.close()


def refusing() -> Script[None]:
    yield [Statement(SEEN, ("d1",))]
    raise Refused("no", "it is not allowed", 403, member="/version")


def dividing() -> Script[float]:
    yield []
    return 1 / 0


async def test_a_script_runs_in_another_process(db: SQLite) -> None:
    assert await db.play(seeing, "d1") == "D1"
    assert await read(db, COUNT) == [[1]]
    assert await db.play(process_id) != os.getpid()


@pytest.mark.parametrize(
    ("set_before", "tunables"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.tcache_count=7", "glibc.malloc.tcache_count=7:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
    ids=["nothing", "something else", "no huge pages"],
)
async def test_the_process_that_writes_asks_for_huge_pages_unless_somebody_refused_them(
    path: Path, monkeypatch: pytest.MonkeyPatch, set_before: str, tunables: str
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", set_before)
    db = await SQLite.open(path, script_modules=["firmtrail.recording.reports"])
    assert await db.play(malloc_settings) == tunables
    flags = await db.play(heap_flags)
    await db.close()
    is_asking = tunables.endswith("hugetlb=1") and await asyncio.to_thread(is_asked)
    assert ("hg" in flags) == is_asking


def is_asked() -> bool:
    """Returns whether the malloc of this machine asks the kernel for huge pages if it may: in glibc
    since 2.35, and only where a kernel that has them waits to be asked."""
    library, version = platform.libc_ver()
    is_new = library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)
    return is_new and HUGE_PAGES.exists() and "[madvise]" in HUGE_PAGES.read_text()


async def test_an_error_in_a_script_comes_back_whole_and_undoes_the_script(db: SQLite) -> None:
    with pytest.raises(Refused) as error:
        await db.play(refusing)
    refused = error.value
    assert (refused.code, refused.status, refused.member) == ("no", 403, "/version")
    assert await read(db, COUNT) == [[0]]


async def test_an_unexpected_error_says_where_it_happened(db: SQLite) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        await db.play(dividing)
    assert "in dividing" in "".join(error.value.__notes__)


async def test_a_report_of_a_wrong_type_is_an_error_and_the_process_still_writes(
    db: SQLite,
) -> None:
    log_id, recorder = await new_log(db), Recorder(db)
    await recorder.act(log_id, register)
    pid = await db.play(process_id)
    with pytest.raises(msgspec.ValidationError, match="Expected `str"):
        await recorder.report(log_id, [replace(report(1), question=7)])
    assert [at(each) for each in await recorder.report(log_id, [report(2)])] == [1]
    assert await db.play(process_id) == pid
    await recorder.close()


@pytest.mark.parametrize(
    ("script", "error"),
    [(unpackable, "lambda"), (unreadable, "invalid literal")],
    ids=["not packed there", "not unpacked here"],
)
async def test_a_result_that_cannot_cross_is_an_error_and_the_process_still_writes(
    db: SQLite, script: Callable[[], Script[object]], error: str
) -> None:
    pid = await db.play(process_id)
    with pytest.raises((ValueError, AttributeError, PicklingError), match=error):
        await db.play(script)
    assert await db.play(process_id) == pid


async def test_an_error_of_sqlite_comes_back_translated(db: SQLite) -> None:
    with pytest.raises(NoSuchTable):
        await write(db, "DELETE FROM no_such_table")


@pytest.mark.parametrize(
    "error",
    [
        Refused("code", "detail", 404, member="/a"),
        Unavailable("away", 7),
        Contended("locked"),
        OutcomeUnknown("broken"),
        LogRefused(LogName("acme", 1), "it ends at 3"),
        Busy(Build(1, 2, 3, {"a": 1}, frozenset({"a"}), "me", 0)),
        Overtaken(),
        log.Corrupt("position 3 is missing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_of_a_script_can_cross_between_processes(error: Exception) -> None:
    crossed = messages.decode(messages.encode(error)[1])
    assert type(crossed) is type(error)
    assert str(crossed) == str(error)
    assert vars(crossed) == vars(error)


def test_each_process_has_one_control_cache_of_its_own() -> None:
    held = CommittedControls()
    first, second = (messages.decode(messages.encode(held)[1]) for _ in range(2))
    assert first is second
    assert first is not held


async def test_a_process_that_ends_leaves_an_unknown_outcome_and_is_replaced(db: SQLite) -> None:
    before = await db.play(process_id)
    results = await asyncio.gather(
        db.play(dying, "d1"), db.play(seeing, "d2"), return_exceptions=True
    )
    assert [type(each) for each in results] == [OutcomeUnknown, OutcomeUnknown]
    assert await read(db, COUNT) == [[0]]
    assert await db.play(seeing, "d3") == "D3"
    assert await db.play(process_id) != before


async def test_a_transaction_ends_with_its_process(db: SQLite) -> None:
    pid = await db.play(process_id)

    async def write_twice() -> None:
        async with db.transaction() as tx:
            await tx.run(Statement(SEEN, ("d1",)))
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match="ended"):
                await tx.run(Statement(SEEN, ("d2",)))
            await tx.run(Statement(SEEN, ("d3",)))

    with pytest.raises(Unavailable, match="ended"):
        await write_twice()
    await write(db, SEEN, "d4")
    assert await read(db, "SELECT device FROM device_seen") == [["d4"]]


async def test_reports_are_recorded_although_the_process_that_records_them_is_killed(
    db: SQLite,
) -> None:
    log_id, recorder = await new_log(db), Recorder(db)
    await recorder.act(log_id, register)
    pid = await db.play(process_id)
    kept = [asyncio.create_task(recorder.report(log_id, [report(n)])) for n in range(200)]
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    outcomes = [outcome for task in kept for outcome in await task]
    again = [outcome for n in range(200) for outcome in await recorder.report(log_id, [report(n)])]
    assert [at(each) for each in again] == [at(each) for each in outcomes]
    assert sorted(at(each) for each in outcomes) == list(range(1, 201))
    await recorder.close()


async def register(commit: Commit) -> int:
    await commit.devices(["d1"])
    return commit.draft.record("device/d1", DeviceRegistered(), actor="system")


def report(n: int) -> ReportCommand:
    return ReportCommand("d1", f"1.0.{n}", "installed", "device/d1", report_id=f"r{n}")


def at(outcome: object) -> int:
    assert isinstance(outcome, ReportReceipt)
    return outcome.position


async def test_the_file_is_locked_until_both_processes_have_ended(path: Path, db: SQLite) -> None:
    with pytest.raises(Locked):
        await SQLite.open(path)
    assert isinstance(db._writer, ProcessConnection)
    own = db._writer._entrance
    assert isinstance(own, OwnProcess)
    own._lock.close()  # as if this process had been killed: it no longer has the lock
    with pytest.raises(Locked):
        await SQLite.open(path)


async def test_a_new_connection_waits_for_the_end_of_the_process_before_it(path: Path) -> None:
    with path.open("rb") as lock:
        own = OwnProcess(path, lock, ())
        own._command = ("sh", "-c", "exec <&-; sleep 0.5")  # it breaks the connection, and lives on
        connection = ProcessConnection(own)
        with pytest.raises(Unavailable, match=BROKEN):
            await connection.ready()
        own._command = command(path, ())
        await connection.ready()
        await connection.close()


async def test_a_process_that_does_not_end_is_waited_for_only_so_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one would write the same file with the same lock, so none is started."""
    monkeypatch.setattr(sqlite_door, "END_WAIT_S", 0.05)
    with path.open("rb") as lock:
        own = OwnProcess(path, lock, ())
        own._command = ("sleep", "600")
        for _ in range(2):
            (await own.enter()).close()
            await own.left()
            with pytest.raises(Unavailable, match="has not ended"):
                await own.enter()
            assert own._process is not None
            own._process.kill()
            await own._process.wait()


async def test_a_waiting_server_gets_the_file_when_the_other_process_has_ended(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_WAIT_S_MAX", PATIENCE_S)
    first = await SQLite.open(path, script_modules=["firmtrail.recording.reports"])
    waiting = asyncio.create_task(SQLite.open(path, script_modules=["firmtrail.recording.reports"]))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await first.close()
    await (await waiting).close()


async def test_a_file_that_is_not_a_database_is_refused_immediately(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("this is no database, but long enough to be one" * 100)
    with pytest.raises(Unavailable, match="not a database"):
        await SQLite.open(path, script_modules=["firmtrail.recording.reports"])
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Unavailable, match="not a database"):
            await SQLite.open(path)  # and no process keeps it locked

"""Opens, copies and checks an embedded database: a SQLite file with its lock and socket."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from rich.progress import TimeRemainingColumn

from firmtrail import config
from firmtrail.cli import archives, checks, doctor_connections, output
from firmtrail.cli.checks import Check, Verdict
from firmtrail.database import file_lock, files, sqlite, sqlite_copy
from firmtrail.database.database import Database
from firmtrail.database.migrating import Migrating
from firmtrail.database.sqlite_door import SharedProcess
from firmtrail.exits import CouldNotRun
from firmtrail.http.health import FREE_BYTES_MIN
from firmtrail.schema import checks as schema_checks
from firmtrail.schema import migrations

FREE_BYTES_WANTED = 1024 * 1024 * 1024
SOCKET_TIMEOUT_S = 2


class EmbeddedBackEnd:
    """Works on one database file."""

    def __init__(self, database: config.Embedded) -> None:
        self._database = database
        self._path = database.path

    def missing_file(self) -> Path | None:
        return None if self._path.exists() else self._path.absolute()

    @contextlib.asynccontextmanager
    async def opened(self, *, apart: Sequence[str] = ()) -> AsyncIterator[Database]:
        _check_writable(self._path)
        db = await sqlite.SQLite.open(self._path, script_modules=apart)
        archives.connect(db, self._database.archive)
        try:
            yield db
        finally:
            await db.close()

    @contextlib.contextmanager
    def shared(self, apart: Sequence[str]) -> Iterator["SharedFile"]:
        _check_writable(self._path)
        process = asyncio.run(sqlite.share(self._path, apart))
        try:
            yield SharedFile(self._database, process)
        finally:
            process.close()

    @contextlib.asynccontextmanager
    async def opened_to_read(self) -> AsyncIterator[Database]:
        if missing := self.missing_file():
            raise CouldNotRun(
                f"The database {missing} does not exist: name another one with --database."
            )
        db = await sqlite.SQLite.open_read_only(self._path)
        archives.connect(db, self._database.archive)
        try:
            yield db
        finally:
            await db.close()

    def migrating(self) -> Migrating:
        return sqlite.migrating(self._path)

    def copy(self, target: Path) -> None:
        with output.progress(TimeRemainingColumn()) as progress:
            bar = progress.add_task("Copying", total=None)

            def copied(remaining: int, total: int) -> None:
                progress.update(bar, total=total, completed=total - remaining)

            sqlite_copy.copy(self._path, target, copied)

    async def checks_before_opening(self) -> list[Check]:
        folder = self._path.absolute().parent
        found = [_linked(), _disk(folder), _folder(folder)]
        reason = _unwritable(self._path)
        if missing := self.missing_file():
            advice = reason or "`firmtrail serve` creates it"
            return [*found, Check("database", "fail", f"{missing} does not exist: {advice}")]
        if reason:
            found.append(Check("database", "fail", reason))
        found.append(await _lock(self._database))
        if (open_now := await doctor_connections.running(self._database.socket)) is not None:
            found.append(open_now)
        return found

    async def checks_of(self, db: Database) -> list[Check]:
        if not await migrations.is_usable(db):
            return []
        return [checks.triggers(await schema_checks.sqlite_triggers(db))]


class SharedFile:
    """Opens a file in each of the processes that share the one that writes it."""

    def __init__(self, database: config.Embedded, process: SharedProcess) -> None:
        self._database = database
        self._process = process

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        db = await sqlite.SQLite.open_shared(self._database.path, self._process)
        archives.connect(db, self._database.archive)
        try:
            yield db
        finally:
            await db.close()

    def keep_running(self) -> None:
        self._process.keep_running()


def _check_writable(path: Path) -> None:
    if reason := _unwritable(path):
        raise CouldNotRun(reason)


def _unwritable(path: Path) -> str:
    """Explains why this process can't write the database file; returns "" if it can."""
    path = path.absolute()
    folder = path.parent
    if not folder.is_dir():
        return (
            f"The folder {folder} of the database does not exist: create it, or name another "
            "database with --database."
        )
    if path.is_dir():
        return f"{path} is a folder, not a database: name a file with --database."
    if path.exists() and not os.access(path, os.W_OK):
        return (
            f"This user can't write to the database {path}: run the command as the file's owner, "
            "or change its mode."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return (
            f"This user can't write to the folder {folder}, which must contain the database's lock "
            "and log: change its mode, or name another database with --database."
        )
    return ""


def _linked() -> Check:
    version = ".".join(map(str, sqlite.VERSION))
    if sqlite.has_wal_reset_bug(sqlite.VERSION):
        bug = "can lose a commit if a second process writes to or checkpoints the file"
        return Check("SQLite", "info", f"{version} {bug}; no firmtrail command does so")
    return Check("SQLite", "ok", version)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    verdict: Verdict = "ok" if free >= FREE_BYTES_WANTED else "warn"
    if free < FREE_BYTES_MIN:
        verdict = "fail"
    return Check("disk", verdict, f"{free // 1024**2} MiB free in {folder}")


def _folder(path: Path) -> Check:
    """Reports whether other users may put files next to the database."""
    if files.is_writable_by_others(path.stat()):
        found = f"other users may write to {path}, and could replace the files in it"
        return Check("folder", "warn", f"{found}: chmod go-w {path}")
    return Check("folder", "ok", f"only its owner may write to {path}")


async def _lock(database: config.Embedded) -> Check:
    if not file_lock.is_locked(database.path):
        return Check("lock", "ok", "free: no server has this file open")
    try:
        async with asyncio.timeout(SOCKET_TIMEOUT_S):
            _, writer = await asyncio.open_unix_connection(database.socket)
            writer.close()
    except (OSError, TimeoutError) as error:
        return Check("lock", "warn", f"taken by a process that accepts no commands: {error}")
    return Check("lock", "ok", "taken by a running server")

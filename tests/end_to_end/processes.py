"""Runs `firmtrail serve` as a process, reached over HTTP and ended by signals."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from firmtrail.database import file_lock
from tests.end_to_end.forked import Forked, Streams
from tests.patience import PATIENCE_S
from tests.postgres_server import PostgresServer

TEMPORARY = "temporary"
"""The folder next to a server's log for its temporary files."""
TCP_LISTEN = "0A"
"""The state of a socket that listens, in `/proc/net/tcp` (proc_pid_net(5))."""
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("FIRMTRAIL_") and name != "PYTHONDONTWRITEBYTECODE"
} | {"SSL_CERT_FILE": os.devnull}
"""What a process gets: no option of the caller's. It may keep what it compiles, or each of the
thousand commands of a run would compile the service again. It trusts none of the authorities of
this machine: aiohttp reads all of them when it is imported, and no test connects to their sites."""


class Server:
    """Runs one server while the context is entered; it can be ended and started meanwhile.

    Each start takes a free port, so `url` changes. Temporary files of the server lie next to its
    log, where a killed server may leave them.
    """

    _through: tuple[str, ...] = ()
    """A program, with its arguments, that starts the server."""

    def __init__(self, database: str, log: Path, *options: str, source: Path | None = None) -> None:
        self._arguments = ["--database", database, "serve", "--port", "0", *options]
        embedded = database.startswith("sqlite:///")
        if not embedded and "--signing-key-file" not in options:
            self._arguments.append("--no-publishing")
        self._file = Path(database.removeprefix("sqlite:///")) if embedded else None
        self._log = log
        self._source = source
        """The folder with the code; None: this one's."""
        self._temporary = log.parent / TEMPORARY
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_running:
            self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def start(self) -> None:
        """Starts on the database as it is, and returns when it serves."""
        started = len(self.said("serving"))
        self._process = self._new_process()
        deadline = time.monotonic() + PATIENCE_S
        while len(said := self.said("serving")) == started:
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.01)
        self.url = said[-1]["url"]

    def _new_process(self) -> "subprocess.Popen[bytes] | Forked":
        self._temporary.mkdir(exist_ok=True)
        environment = ENVIRONMENT | {"TMPDIR": str(self._temporary)}
        if not (self._through or self._source or "--workers" in self._arguments):
            return Forked(self._arguments, environment, Streams(self._log, self._log))
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*self._through, sys.executable, "-m", "firmtrail", *self._arguments],
                cwd=self._source,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the tests, which stop the server
            )

    def kill(self) -> None:
        """Kills the server and its workers with SIGKILL: nothing is flushed or answered."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._file is not None:
            _await_release(self._file)

    def kill_alone(self) -> None:
        """Kills only the process that takes requests; the process that writes for it then ends."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Waits for the end, and returns the exit code."""
        return self._process.wait(PATIENCE_S)

    def said(self, event: str) -> list[dict[str, Any]]:
        """Returns every line of its log with this event, since the first start."""
        return self._lines(f'"event":"{event}"')

    def tracebacks(self) -> list[dict[str, Any]]:
        """Returns every line of its log with an unexpected error."""
        lines = self._lines('"exception":')
        return [line for line in lines if line["level"] == "error"]

    def _lines(self, mark: str) -> list[dict[str, Any]]:
        if not self._log.exists():
            return []
        lines = self._log.read_bytes().splitlines(keepends=True)
        marked = [line for line in lines if mark.encode() in line and line.endswith(b"\n")]
        return [msgspec.json.decode(line) for line in marked]


def children(pid: int) -> list[int]:
    """Returns the processes that this one started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Stops every process of the server: connections stay open, and none answers."""
    pids = [server.pid, *children(server.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def workers(pid: int) -> list[int]:
    """Returns those of the processes that this one started that take requests."""
    return [child for child in children(pid) if not _writes(child)]


def serving_workers(pid: int) -> list[int]:
    """Returns those of the workers that wait for connections."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {f"socket:[{row[9]}]" for row in rows if row[3] == TCP_LISTEN}
    return [worker for worker in workers(pid) if not listening.isdisjoint(_awaited(worker))]


def _awaited(pid: int) -> list[str]:
    """Returns the files for which the event loop of a process waits (proc_pid_fdinfo(5))."""
    found: list[str] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        files = {each.name: str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
        for loop in [name for name, file in files.items() if file == "anon_inode:[eventpoll]"]:
            lines = Path(f"/proc/{pid}/fdinfo/{loop}").read_text().splitlines()
            waited = [line.split()[1] for line in lines if line.startswith("tfd:")]
            found += [files[name] for name in waited if name in files]
    return found


def writer(pid: int) -> int | None:
    """Returns the process that this one started to write its file, if one runs."""
    return next((child for child in children(pid) if _writes(child)), None)


def _writes(pid: int) -> bool:
    try:
        return b"sqlite_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _await_release(file: Path) -> None:
    """Waits until the process that writes for a killed server is gone: it is not a child
    process."""
    deadline = time.monotonic() + PATIENCE_S
    while file_lock.is_locked(file) and time.monotonic() < deadline:
        time.sleep(0.001)

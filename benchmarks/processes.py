"""Runs the measured servers as real processes."""

import contextlib
import http.client
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import fleet
from benchmarks.table import Row
from tests.ports import free_port

START_S_MAX = 300
STOP_S_MAX = 60
CALL_S_MAX = 300
REGISTRATIONS = 10_000

EMAIL, PASSWORD = "bench@example.org", "a password for measurements"

PROGRAMS = Path(sys.executable).parent


class Firmtrail(msgspec.Struct, frozen=True):
    """Describes a running Firmtrail server."""

    port: int
    pid: int
    started_in_s: float


class Tokens(msgspec.Struct, frozen=True):
    """Holds the tokens of the callers that are not devices."""

    admin: str
    gateway: str


def bare() -> contextlib.AbstractContextManager[int]:
    """Runs the bare handlers; gives their port."""
    return _server([sys.executable, "-m", "benchmarks.bare"])


def seed_shape(dsn: str, devices: int) -> contextlib.AbstractContextManager[int]:
    """Populates the seed's shape and runs it by gunicorn; gives its port."""
    settings = {"SEED_DATABASE": dsn.replace("postgresql:", "postgresql+psycopg:")}
    populate = [sys.executable, "-m", "benchmarks.seed_shape", str(devices)]
    subprocess.run(populate, check=True, env={**os.environ, **settings})
    port = free_port()
    command = [f"{PROGRAMS}/gunicorn", "--workers=2", "--threads=8", "--log-level=error"]
    command += [f"--bind=127.0.0.1:{port}", "benchmarks.seed_shape:app"]
    return _server(command, port, settings)


@contextlib.contextmanager
def firmtrail(
    database: str, *, workers: int = 1, options: Sequence[str] = (), under: Sequence[str] = ()
) -> Iterator[Firmtrail]:
    """Serves a prepared database, with these options, and under another program if one is given;
    nothing is published of a PostgreSQL without any option."""
    port = free_port()
    command = [*under, f"{PROGRAMS}/firmtrail", "--database", database, "serve", f"--port={port}"]
    command += [f"--workers={workers}", *options]
    if database.startswith("postgresql") and not options:
        command.append("--no-publishing")  # there is no key, and publishing is not measured
    began = time.perf_counter()
    with running(command) as process:
        while _status(port, "/readyz") != 200:
            _check(process, began)
        yield Firmtrail(port, process.pid, time.perf_counter() - began)


def prepare(database: str, *migrating: str) -> Tokens:
    """Migrates a database, with these options, and creates a project with an administrator, who has
    a password."""
    project = f"--project={fleet.PROJECT}"
    _run(database, "migrate", *migrating)
    _run(database, "project", "add", fleet.PROJECT)
    add = ("user", "add", EMAIL, project, "--role=admin", "--password-stdin")
    _run(database, *add, text=PASSWORD)
    return Tokens(
        admin=_run(database, "token", "create", EMAIL, project),
        gateway=_run(database, "token", "create", EMAIL, project, "--role=gateway"),
    )


def register(port: int, token: str, devices: int) -> None:
    """Registers the devices of a fleet, each with its own secret."""
    for start in range(0, devices, REGISTRATIONS):
        numbers = range(start, min(start + REGISTRATIONS, devices))
        body = [
            {"device": fleet.name(n), "model": "m1", "secret": fleet.secret(n)} for n in numbers
        ]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S_MAX)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("POST", f"{fleet.P}/devices", msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        connection.close()


def memory_mib(pid: int) -> tuple[float, float]:
    """Returns the resident and proportional set size of a process and its child processes."""
    each = [_memory_kib(process) for process in with_children(pid)]
    return sum(kib["Rss:"] for kib in each) / 1024, sum(kib["Pss:"] for kib in each) / 1024


def with_children(pid: int) -> list[int]:
    """Returns a process and those that it started."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _memory_kib(pid: int) -> dict[str, int]:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {line.split()[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}


def audited(name: str, events: int, database: str, *what: str | Path) -> Iterator[Row]:
    """Audits a log of as many events; yields the events in a second of time, and of the audit's
    processor time, which a busy machine changes less."""
    command = [f"{PROGRAMS}/firmtrail", "--database", database, "audit", "verify", *what]
    began, processor_s = time.perf_counter(), _processor_s_of_children()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took_s, worked_s = time.perf_counter() - began, _processor_s_of_children() - processor_s
    yield Row(name=name, value=events / took_s, unit="events/s")
    yield Row(name=f"{name}, processor", value=events / worked_s, unit="events/s")


def _processor_s_of_children() -> float:
    """Returns the processor time of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def running(
    command: Sequence[str | Path], settings: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a program with these environment variables, and ends it as an operator does."""
    environment = {**os.environ, **(settings or {})}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


@contextlib.contextmanager
def _server(
    command: Sequence[str | Path],
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[int]:
    if port is None:
        port = free_port()
        command = [*command, str(port)]
    began = time.perf_counter()
    with running(command, settings) as process:
        while _status(port, "/") is None:
            _check(process, began)
        yield port


def _check(process: subprocess.Popen[bytes], began: float) -> None:
    assert process.poll() is None, f"{process.args!r} ended"
    assert time.perf_counter() - began < START_S_MAX, f"{process.args!r} does not answer"
    time.sleep(0.01)


def _status(port: int, path: str) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CALL_S_MAX)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _run(database: str, *arguments: str, text: str | None = None) -> str:
    command = [f"{PROGRAMS}/firmtrail", "--database", database, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, input=text)
    return done.stdout.strip()

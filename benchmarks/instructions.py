"""Counts the instructions that the serving processes execute for a request, so that machines of
different speeds can be compared.

valgrind's callgrind counts them (Debian's package valgrind). A program runs some fifty times slower
under it, so the database is small, and there are few requests.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks import load, processes
from benchmarks.fleet import ARRAY_REPORTS, Fleet, Sent, gateway_arrays
from benchmarks.load import Job
from benchmarks.table import Row

DEVICES = 2_000
CONNECTIONS = 64
PATIENCE_S = 600

_VALGRIND = shutil.which("valgrind")
_CONTROL = shutil.which("callgrind_control") or "callgrind_control"

_TOTALS = re.compile(rb"^totals: (\d+)", re.MULTILINE)


class Kind(NamedTuple):
    """Describes the requests of one row."""

    name: str
    requests: Iterator[Sent]
    number: int = 640
    connections: int = CONNECTIONS
    units: int = 1
    """How many reports a request has."""


def rows() -> Iterator[Row]:
    """Yields rows for each kind of request, of the process that answers and of the one that writes,
    if it does, in thousands of instructions; without valgrind none."""
    if _VALGRIND is None:
        print("Instructions are not counted: valgrind is not installed.", flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="firmtrail-bench-") as name:
        folder, fleet = Path(name), Fleet(DEVICES)
        database = f"sqlite:///{folder / 'counted.db'}"
        tokens = processes.prepare(database)
        with processes.firmtrail(database) as server:
            processes.register(server.port, tokens.admin, DEVICES)
        options = ("--tool=callgrind", "--trace-children=yes", "--instr-atstart=no", "--quiet")
        valgrind = (_VALGRIND, *options, f"--callgrind-out-file={folder}/%p")
        with processes.firmtrail(database, under=valgrind) as server:
            counters = [Counter(folder, pid) for pid in processes.with_children(server.pid)]
            for kind in _kinds(fleet, tokens):
                yield from _counted(server.port, kind, counters)


def _kinds(fleet: Fleet, tokens: processes.Tokens) -> list[Kind]:
    gathered = gateway_arrays(fleet.gathered(), tokens.gateway)
    return [
        Kind("report", fleet.singles()),
        Kind("report in a gateway's array", gathered, 24, 4, ARRAY_REPORTS),
        Kind("device", fleet.reads(tokens.admin)),
        Kind("history", fleet.reads(tokens.admin, "/history")),
        Kind("check-in, nothing new", fleet.check_ins()),
    ]


class Counter:
    """Counts the instructions of one process."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._folder = folder
        self._pid = pid

    def start(self) -> None:
        """Begins at zero."""
        self._control("--zero")
        self._control("--instr=on")

    def stop(self) -> int:
        """Returns how many there were since the start."""
        self._control("--instr=off")
        before = set(self._folder.iterdir())
        self._control("--dump")
        [dumped] = set(self._folder.glob(f"{self._pid}.*")) - before
        found = _TOTALS.search(dumped.read_bytes())
        assert found, dumped
        return int(found[1])

    def _control(self, what: str) -> None:
        subprocess.run(
            [_CONTROL, what, str(self._pid)],
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )


def _counted(port: int, kind: Kind, counters: Sequence[Counter]) -> Iterator[Row]:
    _send(port, kind)  # what only the first requests do is not counted
    for counter in counters:
        counter.start()
    _send(port, kind)
    for what, counter in zip(("answers", "writes"), counters, strict=True):
        thousands = counter.stop() / (kind.number * kind.units) / 1000
        name = f"instructions: {kind.name}, the process that {what}"
        if thousands >= 1:
            yield Row(name=name, value=thousands, unit="thousand")


def _send(port: int, kind: Kind) -> None:
    requests = [each.request for each in islice(kind.requests, kind.number)]
    job = Job(
        port=port,
        requests=requests,
        keeps=False,
        connections=kind.connections,
        measured_s=PATIENCE_S,
    )
    result = load.drive(job)
    assert not result.failures, result.failures[0]

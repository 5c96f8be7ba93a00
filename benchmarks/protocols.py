"""Measures devices of other protocols against devices of Firmtrail's own: idle polls and installs.

Two fleets of the same size are on one server: one speaks Firmtrail's own interface, the other
hawkBit's. A rollout goes to both. Each step of an install is sent by all devices before the next
step, and an install takes the sum of its steps. A client of hawkBit sends one request more, so the
requests are compared too. The fleets take turns, so a machine that gets slower does so for both.
The rows of every table are counted before and after the idle polls of hawkBit: they may leave none.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import batched
from pathlib import Path
from random import choice
from statistics import median
from typing import NamedTuple

from benchmarks import fleet, load, processes
from benchmarks.fleet import Sent
from benchmarks.load import Job
from benchmarks.rounds import Measure, take_turns
from benchmarks.steering import NONE, Operator, rows_of_tables
from benchmarks.table import Bound, Row

DEVICES = 2_000
"""The devices of each fleet."""
ROUNDS = 3
PHASE_S_MAX = 120
TO_NATIVE = Bound(0.8, 1)
MODEL, FIRST = "m1", "0.1.0"


class Install(NamedTuple):
    """Names what a device installs: the version, and the number of its offer."""

    version: str
    ordinal: int


type Step = Callable[[int, Install], bytes]
"""Makes the request of the device with this number."""


class Speakers(NamedTuple):
    """Describes a fleet that speaks one protocol: its poll, and the steps of an install."""

    name: str
    numbers: Sequence[int]
    poll: Callable[[int], bytes]
    steps: Sequence[Step]

    def polls(self) -> Iterator[Sent]:
        """Yields polls of random devices."""
        while True:
            yield Sent(self.poll(choice(self.numbers)), [])

    def installs_per_s(self, port: int, install: Install) -> float:
        """Lets each device install, and returns how many did so in a second."""
        took_s = 0.0
        for step in self.steps:
            requests = [step(number, install) for number in self.numbers]
            job = Job(port=port, requests=requests, keeps=False, measured_s=PHASE_S_MAX)
            result = load.drive(job)
            assert not result.failures, (self.name, result.failures[0])
            took_s += result.took_s
        return len(self.numbers) / took_s


def _native_poll(number: int) -> bytes:
    return fleet.get(f"{fleet.P}/devices/{fleet.name(number)}/update", fleet.secret(number))


def _native_report(status: str) -> Step:
    def step(number: int, install: Install) -> bytes:
        report_id = f"{install.ordinal}-{status}"
        body = {"version": install.version, "status": status, "report_id": report_id}
        path = f"{fleet.P}/devices/{fleet.name(number)}/reports"
        return fleet.post(path, fleet.secret(number), body)

    return step


def _ddi(number: int, below: str = "") -> str:
    return f"/{fleet.PROJECT}/controller/v1/{fleet.name(number)}{below}"


def _ddi_poll(number: int) -> bytes:
    return fleet.get(_ddi(number), fleet.secret(number), scheme=TARGET)


def _ddi_look(number: int, install: Install) -> bytes:
    path = _ddi(number, f"/deploymentBase/{install.ordinal}")
    return fleet.get(path, fleet.secret(number), scheme=TARGET)


def _ddi_feedback(execution: str, finished: str, progress: Mapping[str, int] | None = None) -> Step:
    result = {"finished": finished} | ({"progress": progress} if progress else {})

    def step(number: int, install: Install) -> bytes:
        body = {
            "id": str(install.ordinal),
            "status": {"execution": execution, "result": result, "details": []},
        }
        path = _ddi(number, f"/deploymentBase/{install.ordinal}/feedback")
        return fleet.post(path, fleet.secret(number), body, scheme=TARGET)

    return step


TARGET = "TargetToken"

NATIVE = Speakers(
    "native",
    range(DEVICES),
    _native_poll,
    (
        lambda number, _: _native_poll(number),
        *map(_native_report, ("downloading", "installing", "installed")),
        lambda number, _: _native_poll(number),
    ),
)

DDI = Speakers(
    "hawkBit",
    range(DEVICES, 2 * DEVICES),
    _ddi_poll,
    (
        lambda number, _: _ddi_poll(number),
        _ddi_look,
        _ddi_feedback("proceeding", "none", {"cnt": 0, "of": 1}),
        _ddi_feedback("proceeding", "none"),
        _ddi_feedback("closed", "success"),
        lambda number, _: _ddi_poll(number),
    ),
)


def run() -> tuple[list[Row], list[str]]:
    """Measures; returns the rows and the faults."""
    with tempfile.TemporaryDirectory(prefix="firmtrail-bench-") as folder:
        path = Path(folder) / "protocols.db"
        tokens = processes.prepare(f"sqlite:///{path}")
        with processes.firmtrail(f"sqlite:///{path}") as server:
            processes.register(server.port, tokens.admin, 2 * DEVICES)
            operator = Operator(server.port, tokens.admin)
            _report_first_versions(operator)
            installs = _installs(operator, server.port)
            polls, left = _idle_polls(server.port, path)
    return [*installs, *polls, left], []


def _installs(operator: Operator, port: int) -> list[Row]:
    native, ddi = [], []
    for number in range(1, ROUNDS + 1):
        version = f"1.{number}.0"
        _roll_out(operator, version)
        native.append(NATIVE.installs_per_s(port, Install(version, number)))
        ddi.append(DDI.installs_per_s(port, Install(version, number)))
    ratio = median(mine / own for mine, own in zip(ddi, native, strict=True))
    return [
        Row(name="native: install", value=median(native), unit="installs/s"),
        Row(
            name="hawkBit: install",
            value=median(ddi),
            unit="installs/s",
            ratio=ratio,
            compared_with="native: install",
            bound=TO_NATIVE,
        ),
        Row(
            name="hawkBit: request of an install",
            value=median(ddi) * len(DDI.steps),
            unit="requests/s",
            ratio=ratio * len(DDI.steps) / len(NATIVE.steps),
            compared_with="the same, native",
            bound=TO_NATIVE,
        ),
    ]


def _report_first_versions(operator: Operator) -> None:
    for numbers in batched(range(2 * DEVICES), fleet.ARRAY_REPORTS):
        body = [{"device": fleet.name(number), "version": FIRST} for number in numbers]
        operator.call("POST", "reports", body)


def _roll_out(operator: Operator, version: str) -> None:
    release = {"model": MODEL, "version": version}
    operator.call("POST", "releases", release)
    operator.upload(f"releases/{MODEL}/{version}/artifacts/image.swu", version.encode() * 100)
    operator.call("POST", "rollouts", {**release, "percent": 100})


def _idle_polls(port: int, path: Path) -> tuple[list[Row], Row]:
    native = Measure("native: poll, nothing new", port, NATIVE.polls())
    ddi = Measure("hawkBit: poll, nothing new", port, DDI.polls())
    before = rows_of_tables(path)
    take_turns([native, ddi])
    grown = (rows_of_tables(path) - before).total()
    left = Row(name=f"rows left by {ddi.answers:,} polls", value=grown, unit="rows", bound=NONE)
    return [native.row(), ddi.row(native, TO_NATIVE)], left

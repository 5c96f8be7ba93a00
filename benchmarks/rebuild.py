"""Measures a rebuild of all views, and the reports that devices send meanwhile."""

import json
import subprocess
from collections.abc import Iterator
from itertools import islice
from statistics import median

from benchmarks import fleet, load, processes
from benchmarks.fleet import Fleet, Sent
from benchmarks.load import Job, Result
from benchmarks.table import Bound, Row
from benchmarks.verify import Ledger

REPORTS_PER_S = 520
"""The rate that is sent: somewhat above the bound, because answers that come after the time is up
are not counted."""
CONNECTIONS = 32
EVENTS_PER_S = Bound(20_000, 60_000)
MEANWHILE_PER_S = Bound(500, 500)
"""A rebuild keeps no device waiting."""


def rows(database: str, port: int, ledger: Ledger, devices: Fleet) -> list[Row]:
    """Rebuilds all views while devices report."""
    with subprocess.Popen(_command(database), stdout=subprocess.PIPE, text=True) as process:
        results = list(_reporting(process, port, ledger, devices))
        assert process.stdout is not None
        per_s = json.loads(process.stdout.read())["events_per_s"]
    name = f"rebuild, {REPORTS_PER_S} reports/s meanwhile"
    return [
        Row(name=name, value=per_s, unit="events/s", bound=EVENTS_PER_S),
        Row(
            name="reports meanwhile",
            value=median(each.answers_per_s for each in results),
            unit="reports/s",
            p50_ms=median(each.p50_ms for each in results),
            p99_ms=max(each.p99_ms for each in results),
            bound=MEANWHILE_PER_S,
        ),
    ]


def _command(database: str) -> list[str]:
    program = f"{processes.PROGRAMS}/firmtrail"
    return [program, "--database", database, "rebuild", "--project", fleet.PROJECT, "--json"]


def _reporting(
    process: subprocess.Popen[str], port: int, ledger: Ledger, devices: Fleet
) -> Iterator[Result]:
    """Sends reports in rounds of a second for as long as the process runs."""
    singles: Iterator[Sent] = devices.singles()
    while process.poll() is None:
        sent = list(islice(singles, 2 * REPORTS_PER_S))
        job = Job(
            port=port,
            requests=[each.request for each in sent],
            keeps=True,
            connections=CONNECTIONS,
            interval_s=CONNECTIONS / REPORTS_PER_S,
        )
        result = load.drive(job)
        ledger.enter(sent, result)
        yield result

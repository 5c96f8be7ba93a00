"""Measures the throughput of the service and of simpler services: `python -m benchmarks`.

Everything runs in one run on one machine, with the load generator, and takes turns in rounds. A row
is the median of its rounds, so a machine that gets slower does so for all rows. Exit code 1: a row
misses the minimum that the design asks for, or an acknowledged report is not in the log.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import (
    console_pages,
    postgres_scale,
    protocols,
    scale,
    short,
    slow_receiver,
    steering,
    table,
)
from benchmarks.table import Row
from firmtrail.cli import python_build


def main() -> int:
    """Measures, prints the table, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    longer = parser.add_mutually_exclusive_group()
    longer.add_argument("--scale", action="store_true", help="a million devices, 10 million events")
    longer.add_argument(
        "--postgres-scale", action="store_true", help="the same on PostgreSQL, filled by COPY"
    )
    longer.add_argument(
        "--steering",
        action="store_true",
        help="orders to a million devices, and the rows that their idle polls leave; nothing else",
    )
    longer.add_argument(
        "--console", action="store_true", help="only pages of the console, at a million devices"
    )
    longer.add_argument(
        "--protocols", action="store_true", help="only devices of other protocols, next to our own"
    )
    longer.add_argument(
        "--webhooks", action="store_true", help="only reports, next to a slow receiver of a webhook"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--reports", type=int, default=scale.REPORTS, help="for the scale ones")
    parser.add_argument(
        "--devices",
        type=int,
        default=steering.DEVICES,
        help="for --steering, --console and --postgres-scale",
    )
    options = parser.parse_args()
    print(f"Python {python_build.check().found}", flush=True)
    rows, faults = _measured(options)
    table.show("Firmtrail and simpler services", rows)
    for fault in faults:
        print(f"FAULT: {fault}")
    if options.json is not None:
        table.write_json(options.json, rows, faults)
    return 1 if faults or any(row.verdict == "MISSES" for row in rows) else 0


def _measured(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    longer: dict[str, Callable[[], tuple[list[Row], list[str]]]] = {
        "steering": partial(steering.run, options.devices),
        "console": partial(console_pages.run, options.devices),
        "protocols": protocols.run,
        "webhooks": slow_receiver.run,
        "postgres_scale": partial(postgres_scale.run, options.devices, options.reports),
        "scale": partial(scale.run, options.reports),
    }
    for name, run in longer.items():
        if getattr(options, name):
            return run()
    rows, faults = short.run()
    spoken, more_faults = protocols.run()
    return [*rows, *spoken], [*faults, *more_faults]


sys.exit(main())

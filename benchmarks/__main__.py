"""`python -m benchmarks`: what the service does in a second, beside simpler ones.

Everything runs in one go on one machine, the load generator too, and takes turns in rounds; a row
is the median of its rounds, so a machine that drifts drifts for all. Exit code 1: a row misses what
the design asks for at least, or an acknowledged report is not in the log.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import scale, short, steering, table
from benchmarks.table import Row


def main() -> int:
    """Measure, show, and say whether it holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    longer = parser.add_mutually_exclusive_group()
    longer.add_argument("--scale", action="store_true", help="a million devices, 10 million events")
    longer.add_argument(
        "--steering",
        action="store_true",
        help="orders to a million devices, and what their idle polls leave; nothing else",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--reports", type=int, default=scale.REPORTS, help="with --scale: fewer")
    parser.add_argument(
        "--devices", type=int, default=steering.DEVICES, help="with --steering: fewer"
    )
    options = parser.parse_args()
    rows, faults = _measured(options)
    table.show("Firmtrail beside simpler services", rows)
    for fault in faults:
        print(f"FAULT: {fault}")
    if options.json is not None:
        table.write_json(options.json, rows, faults)
    return 1 if faults or any(row.verdict == "MISSES" for row in rows) else 0


def _measured(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    if options.steering:
        return steering.run(options.devices)
    return scale.run(options.reports) if options.scale else short.run()


sys.exit(main())

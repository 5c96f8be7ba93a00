"""`python -m benchmarks`: what the service does in a second, beside simpler ones.

Everything runs in one go on one machine, the load generator too, and takes turns in rounds; a row
is the median of its rounds, so a machine that drifts drifts for all. Exit code 1: a row misses what
the design asks for at least, or an acknowledged report is not in the log.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import scale, short, steering, table


def main() -> int:
    """Measure, show, and say whether it holds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--scale", action="store_true", help="a million devices, 10 million events")
    parser.add_argument("--steering", action="store_true", help="orders to a fleet, and idle polls")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--reports", type=int, default=scale.REPORTS, help="with --scale: fewer")
    parser.add_argument(
        "--devices", type=int, default=steering.DEVICES, help="with --steering: fewer"
    )
    options = parser.parse_args()
    if options.steering:
        rows, faults = steering.run(options.devices)
    else:
        rows, faults = scale.run(options.reports) if options.scale else short.run()
    table.show("Firmtrail beside simpler services", rows)
    for fault in faults:
        print(f"FAULT: {fault}")
    if options.json is not None:
        table.write_json(options.json, rows, faults)
    return 1 if faults or any(row.verdict == "MISSES" for row in rows) else 0


sys.exit(main())

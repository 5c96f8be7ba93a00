"""Measures how a server archives a large log of PostgreSQL, and how the archive is audited."""

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import fleet, processes
from benchmarks.processes import audited
from benchmarks.table import Row
from firmtrail.publishing import signing_key

BUNDLE_EVENTS = 256
SECONDS_MAX = 4 * 3600


def rows(dsn: str, folder: Path, events: int) -> Iterator[Row]:
    """Archives a log of as many events into an empty folder, and verifies it from there."""
    key, archive = folder / "key", folder / "archive"
    signing_key.create(key)
    published = (f"--signing-key-file={key}", f"--checkpoints-file={folder / 'checkpoints'}")
    began = time.monotonic()
    with processes.firmtrail(dsn, options=(*published, f"--archive={archive}")):
        checkpoint = archive / fleet.PROJECT / "logs" / "1" / "checkpoint"
        while (archived := _size(checkpoint)) <= events - BUNDLE_EVENTS:
            assert time.monotonic() < began + SECONDS_MAX, archived
            time.sleep(1)
    yield Row(name="archive", value=archived / (time.monotonic() - began), unit="events/s")
    yield from audited("audit verify of the archive", archived, dsn, archive / fleet.PROJECT)


def _size(checkpoint: Path) -> int:
    """Returns how many events a checkpoint signs; 0: there is none yet."""
    return int(checkpoint.read_text().split("\n")[1]) if checkpoint.exists() else 0

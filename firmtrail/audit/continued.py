"""Checks that a project's logs continue each other as they say, and finds what was lost.

A log that continues another names it in its first event, `LogContinued`; the table `continued` is
an index over that. A continued log may be shorter than a checkpoint of it says: then the newer log
says how much of it was left.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.audit.source import Source, bundle
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import lineage
from firmtrail.eventstore.lineage import Segment
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.eventstore.stored_events import page_as_stored


class Continuation(NamedTuple):
    """Holds what a newer log says about the log that it continues."""

    size: int
    """How many entries of the older log were left."""
    note: str | None
    """The last checkpoint of the older log."""


async def check(logs: Sequence[AuditedLog], findings: Findings) -> dict[str, Continuation]:
    """Returns the continued logs of a project, by name. `logs` are all of the project's logs, the
    oldest first.
    """
    by_number = {log.number: log for log in logs}
    parts: dict[int, list[Segment]] = {}
    continuations: dict[str, Continuation] = {}
    for log in logs:
        event, parts[log.number] = await _first(log), []
        if event is not None and event.log in by_number and event.log < log.number:
            before = by_number[event.log]
            continuations[before.name] = Continuation(event.size, event.checkpoint)
            shifted = [part._replace(start=part.start - event.size) for part in parts[event.log]]
            last = Segment(before.log_id, before.number, event.size, -event.size)
            parts[log.number] = [*shifted, last]
        elif event is not None:
            what = f"it continues log {event.log}, which does not exist"
            findings.add(log.name, "position 0", what)
        await _compare(log, parts[log.number], findings)
    return continuations


async def _first(log: AuditedLog) -> LogContinued | None:
    """Returns the first event of a log that continues another; None for any other first entry."""
    found = await page_as_stored(log.db, log.log_id, 0, 1, limit=1)  # no device's, so no stub
    event = rows.decoded(0, found[0].entry) if found else None
    return event if isinstance(event, LogContinued) else None


async def read_first(source: Source, size: int) -> LogContinued | None:
    """Returns the first event of a log of this size if it continues another log. Raises what
    `source.bundle` raises."""
    if not size:
        return None
    [first, *_] = await bundle(source, 0, min(size, TILE_WIDTH))
    event = rows.decoded(0, first.decode(errors="replace"))
    return event if isinstance(event, LogContinued) else None


async def _compare(log: AuditedLog, expected: Sequence[Segment], findings: Findings) -> None:
    stored = set(lineage.segments_of(await log.db.read(lineage.segments(log.log_id))))
    for part in sorted(stored ^ set(expected), key=repr):
        what = "does not follow from the log's first event" if part in stored else "is missing"
        where = f"continued (log {part.number}, size {part.size}, start {part.start})"
        findings.add(log.name, where, what)

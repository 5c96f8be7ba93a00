"""Does a log go on from the logs that its first event names, and what was lost on the way?

A log that goes on from another says so in its first event, `LogContinued`; `continued` is an index
over that. An old log that was gone on from may be shorter than it was once signed: then the new
one says how much of it was left.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.audit import rows
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import Log
from firmtrail.events.log import LogContinued
from firmtrail.eventstore import lineage
from firmtrail.eventstore import log as eventlog
from firmtrail.eventstore.lineage import Segment


class Old(NamedTuple):
    """An old log as the one that goes on from it says."""

    size: int
    """How much of it there was."""
    note: str | None
    """Its last checkpoint before."""


async def look(logs: Sequence[Log], findings: Findings) -> dict[str, Old]:
    """The old logs of a project, by name. `logs` are all of the project's, the oldest first."""
    by_number = {log.number: log for log in logs}
    parts: dict[int, list[Segment]] = {}
    old: dict[str, Old] = {}
    for log in logs:
        event, parts[log.number] = await _first(log), []
        if event is not None and event.log in by_number and event.log < log.number:
            before = by_number[event.log]
            old[before.name] = Old(event.size, event.checkpoint)
            shifted = [part._replace(start=part.start - event.size) for part in parts[event.log]]
            last = Segment(before.log_id, before.number, event.size, -event.size)
            parts[log.number] = [*shifted, last]
        elif event is not None:
            findings.add(log.name, "position 0", f"it goes on from log {event.log}: there is none")
        await _hold(log, parts[log.number], findings)
    return old


async def _first(log: Log) -> LogContinued | None:
    """None also where the first entry is none of ours, which is found with the others."""
    for position, _, text in await log.db.read(eventlog.page(log.log_id, 0, 1, 1)):
        event = rows.decoded(position, text)
        return event if isinstance(event, LogContinued) else None
    return None


async def _hold(log: Log, expected: Sequence[Segment], findings: Findings) -> None:
    stored = set(lineage.segments_of(await log.db.read(lineage.segments(log.log_id))))
    for part in sorted(stored ^ set(expected), key=repr):
        is_said = "its first event does not say so" if part in stored else "it is missing"
        where = f"continued (log {part.number}, size {part.size}, start {part.start})"
        findings.add(log.name, where, is_said)

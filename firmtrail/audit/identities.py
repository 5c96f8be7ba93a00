"""Checks that each event of a log has its identity at its position, and that nothing else has one.

On PostgreSQL a table keeps identities unique: a report is taken for a repetition if it is there.
Each of its rows is compared with the event at its position. Each event has one identity, so if as
many rows fit as the log has entries, each event has its row. On SQLite `identities` is another name
of `events`, where an identity can only be repeated.
"""

from itertools import groupby

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.database.database import Statement

PAGE_IDENTITIES = 1_000

_IDENTITIES = """\
SELECT identities.stream, identities.event_id, identities.position,
    events.stream = identities.stream AND events.event_id = identities.event_id,
    identities.position >= 0 AND identities.position < $5
FROM identities
LEFT JOIN events
    ON events.log_id = identities.log_id
    AND events.position = identities.position
WHERE identities.log_id = $1 AND (identities.stream, identities.event_id) >= ($2, $3)
ORDER BY identities.stream, identities.event_id
LIMIT $4"""

_OF_EVENTS = """\
SELECT events.position, identities.position
FROM events
LEFT JOIN identities
    ON identities.log_id = events.log_id
    AND identities.stream = events.stream
    AND identities.event_id = events.event_id
WHERE events.log_id = $1 AND events.position >= $2 AND events.position < $3
ORDER BY events.position
LIMIT 10000"""


async def check(log: AuditedLog, size: int, findings: Findings) -> None:
    """Compares the identities of a log, which has this many entries or more, with its events."""
    if await _count_fitting(log, size, findings) < size:
        await _find_missing(log, size, findings)


async def _count_fitting(log: AuditedLog, size: int, findings: Findings) -> int:
    """Returns how many events below `size` have their identity. Adds a finding for each identity
    that no event has, or that another event had before. The pages overlap by one row."""
    last: tuple[str, str, int] = ("", "", -1)
    fitting = 0
    while True:
        args = (log.log_id, *last[:2], PAGE_IDENTITIES, size)
        page = await log.db.read(Statement(_IDENTITIES, args))
        begun = last[:2]
        for stream, event_id, position, is_of_event, is_below in page:
            before, last = last, (stream, event_id, position)
            if before == last:
                continue
            what = f"the event {event_id} of {stream} is"
            if before[:2] == last[:2]:
                findings.add(log.name, f"position {position}", f"{what} already at {before[2]}")
            elif not is_of_event:
                findings.add(log.name, f"position {position}", f"{what} here in identities alone")
            else:
                fitting += bool(is_below)
        if len(page) < PAGE_IDENTITIES or last[:2] == begun:
            return fitting


async def _find_missing(log: AuditedLog, size: int, findings: Findings) -> None:
    """Adds a finding for each event that has no identity, or has it at another position."""
    for start in range(0, size, PAGE_IDENTITIES):
        args = (log.log_id, start, min(start + PAGE_IDENTITIES, size))
        rows = await log.db.read(Statement(_OF_EVENTS, args))
        for position, same in groupby(rows, key=lambda row: row[0]):
            found = [row[1] for row in same]
            if found == [None]:
                findings.add(log.name, f"position {position}", "its row in identities is missing")
            elif position not in found:
                what = f"its row in identities says position {found[0]}"
                findings.add(log.name, f"position {position}", what)

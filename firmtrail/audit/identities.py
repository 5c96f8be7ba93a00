"""Checks that each event of a log has its identity at its position, and that nothing else has one.

On PostgreSQL a table keeps identities unique: a report is taken for a repetition if it is there. On
SQLite `identities` is another name of `events`, where an identity can only be repeated.

Events are read by position and identities by name, so the two are compared by sums of hashes, which
no order changes: one look-up for each event would read a large log at random. Only if the sums
differ, look-ups find the places. The key of the hashes is random, and nobody can make other rows
with the same sum without it.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b

from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.database.database import Given, Row, Statement

PAGE_IDENTITIES = 1_000
_SUM_BITS = 256

_IDENTITIES = """\
SELECT stream, event_id, position
FROM identities
WHERE log_id = $1 AND (stream, event_id) >= ($2, $3)
ORDER BY stream, event_id
LIMIT $4"""

_COMPARED = """\
SELECT identities.stream, identities.event_id, identities.position,
    events.stream = identities.stream AND events.event_id = identities.event_id
FROM identities
LEFT JOIN events
    ON events.log_id = identities.log_id
    AND events.position = identities.position
WHERE identities.log_id = $1 AND (identities.stream, identities.event_id) >= ($2, $3)
ORDER BY identities.stream, identities.event_id
LIMIT $4"""

_STRAYS = """\
SELECT given.position
FROM given
LEFT JOIN events
    ON events.log_id = $1
    AND events.position = given.position
    AND events.stream = given.stream
    AND events.event_id = given.event_id
WHERE events.position IS NULL
ORDER BY given.position
LIMIT $2"""

_OF_EVENTS = """\
SELECT
    events.position, min(identities.position),
    max(CASE WHEN identities.position = events.position THEN 1 ELSE 0 END)
FROM events
LEFT JOIN identities
    ON identities.log_id = events.log_id
    AND identities.stream = events.stream
    AND identities.event_id = events.event_id
WHERE events.log_id = $1 AND events.position >= $2 AND events.position < $3
GROUP BY events.position
ORDER BY events.position
LIMIT $4"""


type _Identity = tuple[str, str, int]
"""(stream, event id, position)"""


class IdentitySum:
    """Sums the hashes of identities with their positions."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.value = 0

    def add(self, stream: str, event_id: str, position: int) -> None:
        text = repr((position, stream, event_id))  # a file may have any type in any column
        hashed = blake2b(text.encode(), key=self.key, digest_size=_SUM_BITS // 8).digest()
        self.value = (self.value + int.from_bytes(hashed)) % (1 << _SUM_BITS)


def new_sum() -> IdentitySum:
    return IdentitySum(secrets.token_bytes(32))


async def check(log: AuditedLog, there: range, of_events: IdentitySum, findings: Findings) -> None:
    """Compares the identities at these positions with the events there, of which `of_events` is the
    sum, and finds those at places that the log does not have, or that were recorded twice."""
    of_identities, strays = IdentitySum(of_events.key), 0
    last: _Identity = ("", "", -1)
    async for page in _pages(log, _IDENTITIES):
        for stream, event_id, position in page:
            if position in there:
                of_identities.add(stream, event_id, position)
            if (stream, event_id) == last[:2]:
                what = f"the event {event_id} of {stream} is already at position {last[2]}"
                findings.add(log.name, f"position {position}", what)
            last = stream, event_id, position
        strays += await _count_strays(log, there.stop, page)
    if strays or of_identities.value != of_events.value:
        await _find_planted(log, findings)
        await _find_missing(log, there, findings)


async def _pages(log: AuditedLog, text: str) -> AsyncIterator[list[Row]]:
    """Yields the identities by name. A query begins at the last name of the one before it, because
    a table without its key may have more rows of that name; the row itself is left out."""
    last: Row = ("", "")
    while True:
        page = await log.db.read(Statement(text, (log.log_id, *last[:2], PAGE_IDENTITIES)))
        yield [row for row in page if tuple(row) != tuple(last)]
        if len(page) < PAGE_IDENTITIES or page[-1][:2] == last[:2]:
            return
        last = page[-1]


async def _count_strays(log: AuditedLog, size: int, page: Sequence[Row]) -> int:
    """Returns how many of the identities are at no position below `size` and belong to no event
    that was appended since."""
    outside = [tuple(row) for row in page if row[2] not in range(size)]
    if not outside:
        return 0
    given = Given("stream text, event_id text, position bigint", outside)
    return len(await log.db.read(Statement(_STRAYS, (log.log_id, len(outside)), given)))


async def _find_planted(log: AuditedLog, findings: Findings) -> None:
    """Adds a finding for each identity that the event at its position does not have."""
    async for page in _pages(log, _COMPARED):
        for stream, event_id, position, is_of_event in page:
            if not is_of_event:
                what = f"the event {event_id} of {stream} is here in identities alone"
                findings.add(log.name, f"position {position}", what)


async def _find_missing(log: AuditedLog, there: range, findings: Findings) -> None:
    """Adds a finding for each event that has no identity, or has it at another position."""
    for start in range(there.start, there.stop, PAGE_IDENTITIES):
        args = (log.log_id, start, min(start + PAGE_IDENTITIES, there.stop), PAGE_IDENTITIES)
        for position, found, is_right in await log.db.read(Statement(_OF_EVENTS, args)):
            if found is None:
                findings.add(log.name, f"position {position}", "its row in identities is missing")
            elif not is_right:
                what = f"its row in identities says position {found}"
                findings.add(log.name, f"position {position}", what)

"""Keeps how far each log is pruned: writes and lists `pruned`, and has the UPDATE that prunes.

The row of a log is written in the transaction that replaces the texts. So at every moment, stubs
stand for all entries of devices below its size, and for no others.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database import stubs
from firmtrail.database.database import Given, Reader, Statement, Transaction
from firmtrail.database.entry_archive import Stub
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.schema.migrations import KEEP_OLDER_CODE_AWAY

KNOWS_STUBS = "0016"
"""The schema since which code knows stubs: older code must not serve a pruned database."""

PAGE_LOGS = 500

_LOGS = """\
SELECT
    log_heads.log_id, log_heads.project, log_heads.number, log_heads.size, archives.size,
    coalesce(pruned.size, 0)
FROM archives
JOIN log_heads ON log_heads.log_id = archives.log_id
LEFT JOIN pruned ON pruned.log_id = archives.log_id
WHERE archives.location = $1
    AND archives.log_id > $2
    AND ($3 = '' OR log_heads.project = $3)
ORDER BY archives.log_id
LIMIT $4"""

_ENTRIES = """\
SELECT position, stream, entry
FROM events
WHERE log_id = $1 AND position >= $2 AND position < $3
ORDER BY position
LIMIT $4"""

_ADVANCE = """\
INSERT INTO pruned (log_id, size, entries, bytes, pruned_at_ms)
SELECT CAST($1 AS bigint), CAST($3 AS bigint), CAST($4 AS bigint), CAST($5 AS bigint), now_ms()
WHERE TRUE
ON CONFLICT (log_id) DO UPDATE
SET size = excluded.size,
    entries = pruned.entries + excluded.entries,
    bytes = pruned.bytes + excluded.bytes,
    pruned_at_ms = excluded.pruned_at_ms
WHERE pruned.size = CAST($2 AS bigint)
RETURNING size"""

_REPLACE = """\
UPDATE events
SET entry = given.stub
FROM given
WHERE events.log_id = $1 AND events.position = given.position
RETURNING events.position"""

_TOTALS = """\
SELECT count(*), CAST(coalesce(sum(entries), 0) AS bigint), CAST(coalesce(sum(bytes), 0) AS bigint)
FROM pruned
LIMIT 1"""

_STUBS = """\
SELECT events.entry
FROM (
    SELECT pruned.log_id, max(events.position) AS position
    FROM pruned
    JOIN events ON events.log_id = pruned.log_id
    WHERE events.position >= pruned.size - 256
        AND events.position < pruned.size
        AND events.entry < '$'
    GROUP BY pruned.log_id
    ORDER BY pruned.log_id
    LIMIT $1) AS last
CROSS JOIN events
WHERE events.log_id = last.log_id AND events.position = last.position
ORDER BY events.log_id
LIMIT $1"""
"""The last stub of each log, if its last pruned bundle has one: a text begins with a brace."""


class PrunableLog(NamedTuple):
    """Describes a log that is in an archive."""

    log_id: int
    name: LogName
    size: int
    archived: int
    """The size of the log in the archive."""
    pruned: int
    """How far the log is pruned."""


class Totals(NamedTuple):
    """Counts the entries that were pruned from a database."""

    logs: int
    entries: int
    bytes: int
    """How many bytes the texts had more than their stubs."""


class Replacement(NamedTuple):
    """Holds the stubs of all entries of devices in a span of positions."""

    span: range
    stubs: Sequence[Stub]
    text_bytes: int
    """The size of the texts that they stand for."""

    @property
    def saved_bytes(self) -> int:
        return self.text_bytes - sum(len(str(stub)) for stub in self.stubs)


class StoredEntry(NamedTuple):
    """Holds an entry as it is stored: its text or its stub."""

    position: int
    stream: str
    entry: str


async def logs(db: Reader, location: str, project: str, *, after: int = 0) -> list[PrunableLog]:
    """Returns the logs that are in the archive at a location, a page of them after a log id; of one
    project, or of all for an empty name."""
    rows = await db.read(Statement(_LOGS, (location, after, project, PAGE_LOGS)))
    return [PrunableLog(row[0], LogName(*row[1:3]), *row[3:]) for row in rows]


async def entries(db: Reader, log_id: int, start: int, stop: int) -> list[StoredEntry]:
    """Returns the entries of a range as they are stored."""
    rows = await db.read(Statement(_ENTRIES, (log_id, start, stop, stop - start)))
    return [StoredEntry(*row) for row in rows]


async def replace(tx: Transaction, log_id: int, new: Replacement) -> bool:
    """Replaces the texts of entries by their stubs, and notes that the log is pruned up to the end
    of the span. From the first time on, code that does not know stubs may not serve the database.

    Returns False, and changes nothing, if the log is not pruned exactly up to the span's start:
    another process prunes it. The guard of `events` refuses a stub of any other text.
    """
    args = (log_id, new.span.start, new.span.stop, len(new.stubs), new.saved_bytes)
    [_, advanced] = await tx.run(
        Statement(KEEP_OLDER_CODE_AWAY, (KNOWS_STUBS,)), Statement(_ADVANCE, args)
    )
    if not advanced:
        return False
    rows = [(each.position, str(each)) for each in new.stubs]
    given = Given("position bigint, stub text", rows)
    [replaced] = await tx.run(Statement(_REPLACE, (log_id,), given))
    assert len(replaced) == len(rows), "the log has each of these positions"
    return True


async def newest_stubs(db: Reader, limit: int = 1_000) -> list[Stub]:
    """Returns the last stub of each log that has one in its last pruned bundle, of so many logs at
    most."""
    parsed = (stubs.parse(entry) for (entry,) in await db.read(Statement(_STUBS, (limit,))))
    return [stub for stub in parsed if stub is not None]


async def totals(db: Reader) -> Totals:
    [row] = await db.read(Statement(_TOTALS))
    return Totals(*row)

"""Keeps how far each log is archived at each location. Holds all SQL of `archives`.

The archive's own checkpoint says what is in it. A row here is what the last step found there: it
shows which logs have something to archive, without reading the archive. A lease in the row keeps
two servers from doing the same work; it protects nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Reader, Row, Statement
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.publishing import arrivals
from firmtrail.publishing.minimum_sizes import LogName

LEASE_MS = 120_000
PAGE_LOGS = 500

_STATE = f"""\
SELECT log_id, project, number, closed, archived, target
FROM (
    SELECT
        log_heads.log_id, log_heads.project, log_heads.number, log_heads.closed,
        coalesce((
            SELECT archives.size
            FROM archives
            WHERE archives.log_id = log_heads.log_id AND archives.location = $1), 0) AS archived,
        coalesce((
            SELECT max(checkpoints.size)
            FROM checkpoints
            WHERE checkpoints.log_id = log_heads.log_id), 0)
            / CASE WHEN log_heads.closed = 0 THEN {TILE_WIDTH} ELSE 1 END
            * CASE WHEN log_heads.closed = 0 THEN {TILE_WIDTH} ELSE 1 END AS target
"""
"""A log that is open is archived up to its last full bundle, and a closed one to its end. A log
that was moved here is archived by the instance that signed it."""

_STATES = f"""\
{_STATE}    FROM log_heads
    WHERE {arrivals.SIGNED_HERE}) AS logs
"""

_WAITING = f"""\
{_STATES}WHERE archived < target AND log_id > $2
ORDER BY log_id
LIMIT $3"""

_WAITING_OF = f"""\
{_STATE}    FROM given
    CROSS JOIN log_heads
    WHERE log_heads.log_id = given.log_id AND {arrivals.SIGNED_HERE}) AS logs
WHERE archived < target"""

_LOCATIONS = "SELECT DISTINCT location FROM archives ORDER BY location LIMIT 10"

_LAG = f"""\
SELECT count(*), CAST(coalesce(sum(target - archived), 0) AS bigint)
FROM (
{_STATES}WHERE archived < target) AS waiting
LIMIT 1"""

_CREATE = """\
INSERT INTO archives (log_id, location, size, archived_at_ms)
VALUES ($1, $2, 0, 0)
ON CONFLICT DO NOTHING"""

_TAKE = """\
UPDATE archives
SET lease = $3,
    lease_until_ms = (SELECT now_ms()) + CAST($4 AS bigint)
WHERE log_id = $1
    AND location = $2
    AND (lease IS NULL
        OR lease = $3
        OR lease_until_ms <= (SELECT now_ms())
        OR CAST($5 AS bigint) = 1)
RETURNING log_id"""

_SAVE = """\
UPDATE archives
SET size = $4,
    archived_at_ms = (SELECT now_ms()),
    lease = NULL
WHERE log_id = $1 AND location = $2 AND lease = $3"""

_RELEASE = """\
UPDATE archives
SET lease = NULL
WHERE log_id = $1 AND location = $2 AND lease = $3"""


class ArchiveWork(NamedTuple):
    """Describes a log that has entries to archive."""

    log_id: int
    name: LogName
    is_closed: bool
    """A newer log of the project has replaced this one."""
    archived: int
    """The size that the last step found or left in the archive."""
    target: int
    """The size up to which the log can be archived now."""


class ArchiveLag(NamedTuple):
    """Says how much is not archived yet."""

    logs: int
    entries: int
    """The entries of full bundles, and of closed logs, that are not in the archive."""


async def waiting(db: Database, location: str, *, after: int = 0) -> list[ArchiveWork]:
    """Returns logs that have something to archive, a page of them after a log id."""
    rows = await db.read(Statement(_WAITING, (location, after, PAGE_LOGS)))
    return [_work(row) for row in rows]


async def waiting_of(db: Database, location: str, log_ids: Sequence[int]) -> list[ArchiveWork]:
    """Returns those of the logs that have something to archive."""
    given = Given("log_id bigint", [(log_id,) for log_id in log_ids])
    rows = await db.read(Statement(_WAITING_OF, (location,), given))
    return sorted(_work(row) for row in rows)


def _work(row: Row) -> ArchiveWork:
    log_id, project, number, closed, archived, target = row
    return ArchiveWork(log_id, LogName(project, number), bool(closed), archived, target)


async def locations(db: Reader) -> list[str]:
    """Returns where logs of this database are archived, of ten locations at most."""
    return [location for [location] in await db.read(Statement(_LOCATIONS))]


async def lag(db: Reader, location: str) -> ArchiveLag:
    [row] = await db.read(Statement(_LAG, (location,)))
    return ArchiveLag(*row)


async def take(db: Database, work: ArchiveWork, place: tuple[str, str], *, is_alone: bool) -> bool:
    """Leases a log to a process, for `place`: the location and the process. Returns False if
    another process has it. A process that `is_alone` takes over the lease of one that ended."""
    location, process = place
    key = (work.log_id, location)
    async with db.transaction() as tx:
        await tx.run(Statement(_CREATE, key))
        [rows] = await tx.run(Statement(_TAKE, (*key, process, LEASE_MS, int(is_alone))))
    return bool(rows)


async def save(db: Database, work: ArchiveWork, place: tuple[str, str], size: int) -> None:
    """Notes the size that the archive has, and ends the lease."""
    async with db.transaction() as tx:
        await tx.run(Statement(_SAVE, (work.log_id, *place, size)))


async def release(db: Database, work: ArchiveWork, place: tuple[str, str]) -> None:
    """Ends the lease of a step that failed."""
    async with db.transaction() as tx:
        await tx.run(Statement(_RELEASE, (work.log_id, *place)))

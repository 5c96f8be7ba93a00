"""Keeps the newest attempts of each webhook. Holds all SQL of `webhook_deliveries`."""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Reader, Statement
from firmtrail.events.times import DAY_MS

KEPT_DELIVERIES = 200
"""The attempts of a webhook that are kept."""
KEPT_MS = 7 * DAY_MS


class DeliveryRow(NamedTuple):
    """Holds an attempt to send a message, as it is kept."""

    number: int
    message_id: str
    position: int | None
    type: str
    attempt: int
    at_ms: int
    duration_ms: int
    status: int | None
    error: str | None
    excerpt: str


_NUMBER = """\
UPDATE webhooks
SET deliveries = deliveries + 1
WHERE project = $1 AND webhook_id = $2
RETURNING deliveries"""

_INSERT_DELIVERIES = """\
INSERT INTO webhook_deliveries (
    project, webhook_id, number, message_id, position, type, attempt, at_ms, duration_ms, status,
    error, excerpt)
SELECT
    $1, $2, given.number, given.message_id, given.position, given.type, given.attempt, given.at_ms,
    given.duration_ms, given.status, given.error, given.excerpt
FROM given
WHERE TRUE"""

_TRIM = """\
DELETE FROM webhook_deliveries
WHERE project = $1 AND webhook_id = $2 AND number <= $3"""

_PAGE_OF_DELIVERIES = """\
SELECT number, message_id, position, type, attempt, at_ms, duration_ms, status, error, excerpt
FROM webhook_deliveries
WHERE project = $1 AND webhook_id = $2 AND number < $3
ORDER BY number DESC
LIMIT $4"""

_COUNT_DELIVERIES = """\
SELECT count(*)
FROM webhook_deliveries
WHERE project = $1 AND webhook_id = $2"""

_FORGET = "DELETE FROM webhook_deliveries WHERE at_ms < (SELECT now_ms()) - CAST($1 AS bigint)"


async def keep_test(db: Database, key: tuple[str, str], tried: DeliveryRow) -> DeliveryRow:
    """Keeps an attempt that a person asked for, and returns it with its number; it stays 0 if the
    webhook was removed meanwhile."""
    async with db.transaction() as tx:
        [rows] = await tx.run(Statement(_NUMBER, key))
        if not rows:
            return tried
        await tx.run(*keep(key, rows[0][0], [tried]))
    return tried._replace(number=rows[0][0])


def keep(key: tuple[str, str], last: int, tries: Sequence[DeliveryRow]) -> list[Statement]:
    """Keeps the newest of these attempts, of which the last gets the number `last`."""
    newest = tries[-KEPT_DELIVERIES:]
    first = last - len(newest) + 1
    rows = [each._replace(number=n) for n, each in enumerate(newest, start=first)]
    columns = (
        "number bigint, message_id text, position bigint, type text, attempt bigint, at_ms bigint,"
        " duration_ms bigint, status bigint, error text, excerpt text"
    )
    return [
        Statement(_INSERT_DELIVERIES, key, Given(columns, rows)),
        Statement(_TRIM, (*key, last - KEPT_DELIVERIES)),
    ]


async def deliveries(
    db: Reader, key: tuple[str, str], *, before: int, limit: int
) -> list[DeliveryRow]:
    """Returns attempts before this number, the newest first."""
    rows = await db.read(Statement(_PAGE_OF_DELIVERIES, (*key, before, limit)))
    return [DeliveryRow(*row) for row in rows]


async def count_deliveries(db: Reader, key: tuple[str, str]) -> int:
    [[found]] = await db.read(Statement(_COUNT_DELIVERIES, key))
    return int(found)


async def forget(db: Database) -> None:
    """Deletes attempts that are too old."""
    async with db.transaction() as tx:
        await tx.run(Statement(_FORGET, (KEPT_MS,)))

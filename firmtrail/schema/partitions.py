"""Reads how `events` is divided into partitions, by ranges of positions that all logs share.

Only PostgreSQL divides it (`dividing`). The last partition has no upper bound, so every append
finds one; but it should be empty, as it can be given a bound at no cost only then.
"""

from collections.abc import Sequence
from typing import NamedTuple

from firmtrail.database.database import Reader, Statement

BOUND = "events_bound"
"""The constraint of a partition whose rows are compared with a bound before another one follows."""

_PARTITIONS = """\
SELECT name, start, stop
FROM event_partitions
ORDER BY coalesce(start, stop - 1, 0)
LIMIT 10000"""

_LEFT = """\
SELECT last.start - (SELECT coalesce(max(size), 0) FROM log_heads)
FROM event_partitions AS last
WHERE last.start IS NOT NULL AND last.stop IS NULL
LIMIT 1"""


class Partition(NamedTuple):
    """Describes a table that holds the events at start <= position < stop of all logs."""

    name: str
    start: int | None
    """None: it has no lower bound."""
    stop: int | None
    """None: it has no upper bound."""


def is_near(parts: Sequence[Partition], left: int) -> bool:
    """Returns whether the last partition should get another one after it: a quarter of the one
    before it is left, or less."""
    *_, before, last = parts
    return left <= ((last.start or 0) - (before.start or 0)) // 4


async def partitions(reader: Reader) -> list[Partition]:
    """Returns the partitions in the order of their positions; one without bounds: `events` is one
    table."""
    return [Partition(*row) for row in await reader.read(Statement(_PARTITIONS))]


async def positions_left(reader: Reader) -> int | None:
    """Returns how many events the largest log can take before it reaches the last partition, below
    0 if it has; None: `events` is one table."""
    rows = await reader.read(Statement(_LEFT))
    return int(rows[0][0]) if rows else None

"""Which logs does a log go on from? All SQL that writes `continued`.

Where a log was lost or is not what was published of it, its project goes on in a new one, whose
views and known identities are the fold of the old log's events, then its own. Those of the old log
stand before position 0, in their order: a position below 0 is one of an old log.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.database.database import Reader, Row, Statement

END = (1 << 63) - 1
"""Behind every position."""


class Part(NamedTuple):
    """A log that another goes on from: its first `size` events stand before the other's own."""

    log_id: int
    number: int
    size: int
    start: int
    """Where its first event stands among the other's positions: below 0."""


_CONTINUE = """\
INSERT INTO continued (log_id, old_log_id, size, start)
SELECT CAST($1 AS bigint), old_log_id, size, start - CAST($3 AS bigint)
FROM continued
WHERE log_id = CAST($2 AS bigint)
UNION ALL
SELECT CAST($1 AS bigint), CAST($2 AS bigint), CAST($3 AS bigint), -CAST($3 AS bigint)
WHERE TRUE"""

_PARTS = """\
SELECT continued.old_log_id, old.number, continued.size, continued.start
FROM continued
JOIN log_heads AS old ON old.log_id = continued.old_log_id
WHERE continued.log_id = $1
ORDER BY continued.start
LIMIT 1000"""

_FIRST = "SELECT coalesce(min(start), 0) FROM continued WHERE log_id = $1"


def joined(table: str, name: str, position: str) -> str:
    """SQL that joins, as `name`, the row of `events` or `texts` at a position of log $1, whichever
    log the event was recorded in."""
    return f"""\
LEFT JOIN continued AS {name}_part
    ON {name}_part.log_id = $1
    AND {name}_part.start <= {position}
    AND {name}_part.start + {name}_part.size > {position}
LEFT JOIN {table} AS {name}
    ON {name}.log_id = coalesce({name}_part.old_log_id, $1)
    AND {name}.position = {position} - coalesce({name}_part.start, 0)"""


def go_on(log_id: int, old_log_id: int, size: int) -> Statement:
    """Makes the first `size` events of an old log, and what it goes on from itself, stand before
    those of a new one: at positions below 0, in their order."""
    return Statement(_CONTINUE, (log_id, old_log_id, size))


def parts(log_id: int) -> Statement:
    """The logs that this one goes on from, the oldest first; read it with `parts_of`."""
    return Statement(_PARTS, (log_id,))


def parts_of(rows: Iterable[Row]) -> list[Part]:
    return [Part(*row) for row in rows]


async def whole(db: Reader, log_id: int) -> list[Part]:
    """The logs that this one goes on from, the oldest first, and itself at the end."""
    own = Part(log_id, 0, END, 0)
    return [*parts_of(await db.read(parts(log_id))), own]


def place_of(parts: Iterable[Part], position: int) -> tuple[int, int]:
    """The number of the old log where an event below 0 was recorded, and its position there."""
    part = next(part for part in parts if part.start <= position < part.start + part.size)
    return part.number, position - part.start


async def first(db: Reader, log_id: int) -> int:
    """The position of the first event of all: below 0 where the log goes on from others."""
    [[position]] = await db.read(Statement(_FIRST, (log_id,)))
    return int(position)

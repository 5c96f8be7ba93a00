"""Reads and writes which older logs a log continues. All SQL that writes `continued` is here.

Where a log was lost, or is not the one that was published, its project continues in a new log. The
new log's views and known identities are the fold of the older log's events, then of its own. The
older events have positions below 0, in their order, so a position below 0 belongs to an older log.
"""

from collections.abc import Iterable
from typing import NamedTuple

from firmtrail.database.database import Reader, Row, Statement

POSITION_MAX = (1 << 63) - 1
"""Greater than every position."""


class Segment(NamedTuple):
    """Locates the first `size` events of a log in a log that continues it."""

    log_id: int
    number: int
    size: int
    start: int
    """The position of its first event in the continuing log: below 0."""


_CONTINUE = """\
INSERT INTO continued (log_id, old_log_id, size, start)
SELECT CAST($1 AS bigint), old_log_id, size, start - CAST($3 AS bigint)
FROM continued
WHERE log_id = CAST($2 AS bigint)
UNION ALL
SELECT CAST($1 AS bigint), CAST($2 AS bigint), CAST($3 AS bigint), -CAST($3 AS bigint)
WHERE TRUE"""

_SEGMENTS = """\
SELECT continued.old_log_id, old.number, continued.size, continued.start
FROM continued
JOIN log_heads AS old ON old.log_id = continued.old_log_id
WHERE continued.log_id = $1
ORDER BY continued.start
LIMIT 1000"""

_FIRST = "SELECT coalesce(min(start), 0) FROM continued WHERE log_id = $1"


def join_sql(table: str, name: str, position: str) -> str:
    """Returns SQL that joins, as `name`, the row of `events` or `texts` at a position of log $1, in
    whichever log the event was recorded."""
    return f"""\
LEFT JOIN continued AS {name}_part
    ON {name}_part.log_id = $1
    AND {name}_part.start <= {position}
    AND {name}_part.start + {name}_part.size > {position}
LEFT JOIN {table} AS {name}
    ON {name}.log_id = coalesce({name}_part.old_log_id, $1)
    AND {name}.position = {position} - coalesce({name}_part.start, 0)"""


def continue_log(log_id: int, old_log_id: int, size: int) -> Statement:
    """Makes a new log continue the first `size` events of an old one, and all that this continues:
    they get the positions below 0, in their order."""
    return Statement(_CONTINUE, (log_id, old_log_id, size))


def segments(log_id: int) -> Statement:
    """Reads the segments that the log continues, the oldest first; `segments_of` takes the rows."""
    return Statement(_SEGMENTS, (log_id,))


def segments_of(rows: Iterable[Row]) -> list[Segment]:
    return [Segment(*row) for row in rows]


async def all_segments(db: Reader, log_id: int) -> list[Segment]:
    """Returns the segments that the log continues, the oldest first, and itself as the last one."""
    own = Segment(log_id, 0, POSITION_MAX, 0)
    return [*segments_of(await db.read(segments(log_id))), own]


def original_place(segments: Iterable[Segment], position: int) -> tuple[int, int]:
    """Returns the number of the log where an event below 0 was recorded, and its position there."""
    segment = next(each for each in segments if each.start <= position < each.start + each.size)
    return segment.number, position - segment.start


async def first_position(db: Reader, log_id: int) -> int:
    """Returns the position of the very first event: below 0 where the log continues others."""
    [[position]] = await db.read(Statement(_FIRST, (log_id,)))
    return int(position)

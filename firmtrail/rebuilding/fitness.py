"""Finds the logs whose views this code can't read and write, and those prepared for this code.

A view is *older* if it is live in a revision below this code's, or in none, and *newer* if its
revision is above. The views of a log are *prepared* if a rebuild has built this code's revisions of
them next to the live ones, up to some of the newest events: then they can be made live at any
moment.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from firmtrail.database.database import Database, Given, Reader, Row, Statement
from firmtrail.projections import fold

PREPARED_EVENTS_MAX = 5_000
"""How many events may be left to fold of prepared views: about a second's work."""
PAGE_ROWS = 10_000

_OTHER_REVISIONS = """\
SELECT log_heads.log_id, given.name, coalesce(views.revision, -1) - given.revision
FROM given
CROSS JOIN log_heads
LEFT JOIN views ON views.log_id = log_heads.log_id AND views.name = given.name
WHERE log_heads.closed = 0
    AND coalesce(views.revision, -1) <> given.revision
    AND (log_heads.log_id, given.name) > ($1, $2)
ORDER BY log_heads.log_id, given.name
LIMIT $3"""

_BUILT = """\
SELECT
    rebuilds.log_id, rebuilds.name, rebuilds.revision, rebuilds.is_wanted,
    log_heads.size - rebuilds.position
FROM rebuilds
JOIN log_heads ON log_heads.log_id = rebuilds.log_id
WHERE (rebuilds.log_id, rebuilds.name) > ($1, $2)
ORDER BY rebuilds.log_id, rebuilds.name
LIMIT $3"""


class Fitness(NamedTuple):
    """Holds the logs with a view that is live in another revision than this code's."""

    differing: Mapping[int, frozenset[str]]
    """The views of each such log that are."""
    newer: frozenset[int]
    """The logs with a newer view."""
    prepared: Mapping[int, int]
    """The logs among them whose views are prepared: log -> the number of events left to fold."""


ALL_FIT = Fitness({}, frozenset(), {})


async def read(db: Database) -> Fitness:
    """Returns the state of all logs that take events, at one moment: a rebuild that ends makes its
    views live and no longer prepared."""
    if not await db.read(_page(_OTHER_REVISIONS, (0, ""), 1, _given())):
        return ALL_FIT
    async with db.moment() as reader:
        differing, newer = await _differing(reader)
        return Fitness(differing, newer, _prepared(await _all(reader, _BUILT), differing))


async def _differing(db: Reader) -> tuple[dict[int, frozenset[str]], frozenset[int]]:
    """Returns the views that differ by log, and the logs with a newer view."""
    differing: defaultdict[int, set[str]] = defaultdict(set)
    newer = set()
    for log_id, name, difference in await _all(db, _OTHER_REVISIONS, _given()):
        differing[log_id].add(name)
        if difference > 0:
            newer.add(log_id)
    views = {log_id: frozenset(names) for log_id, names in differing.items()}
    return views, frozenset(newer)


def _given() -> Given:
    """Returns this code's revisions as rows of `_OTHER_REVISIONS`."""
    return Given("name text, revision bigint", list(fold.REVISIONS.items()))


async def _all(db: Reader, text: str, given: Given | None = None) -> list[Row]:
    """Returns the rows of all pages of a statement, each of which begins with a log and a view."""
    found = await db.read(_page(text, (0, ""), PAGE_ROWS, given))
    rows = found
    while len(rows) == PAGE_ROWS:
        rows = await db.read(_page(text, (rows[-1][0], rows[-1][1]), PAGE_ROWS, given))
        found = [*found, *rows]
    return found


def _page(text: str, after: tuple[int, str], rows_max: int, given: Given | None) -> Statement:
    return Statement(text, (*after, rows_max), given)


def _prepared(rows: Iterable[Row], differing: Mapping[int, frozenset[str]]) -> dict[int, int]:
    found = {}
    for log_id, of_log in groupby(rows, itemgetter(0)):
        views = [row[1:] for row in of_log]
        wanted = {name for name, _, is_wanted, _ in views if is_wanted}
        is_of_this_code = all(fold.REVISIONS.get(name) == at for name, at, _, _ in views)
        left = views[0][-1]  # all views of a rebuild are equally far
        is_near = is_of_this_code and left <= PREPARED_EVENTS_MAX
        if is_near and log_id in differing and differing[log_id] <= wanted:
            found[log_id] = left
    return found

"""Reads the stored subtrees of a log for tests."""

from firmtrail.database.database import Database
from tests.databases import read

_SUBTREES = """\
SELECT level, number, hash
FROM subtrees
WHERE log_id = $1
ORDER BY level, number"""


async def subtrees_of(db: Database, log_id: int) -> list[tuple[int, int, str]]:
    return [tuple(row) for row in await read(db, _SUBTREES, log_id)]

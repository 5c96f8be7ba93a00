"""Fills `subtrees`, from their entries, for logs that are older than that table.

It works page by page in the migration's transaction: about a minute for ten million events. It does
not check that the entries are what was appended: an audit does.
"""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, text

from firmtrail.eventstore import merkle

PAGE_ENTRIES = 4 * merkle.TILE_WIDTH

_LOGS = text("SELECT log_id FROM log_heads ORDER BY log_id")

_PAGE = text("""\
SELECT entry
FROM events
WHERE log_id = :log_id AND position >= :start AND position < :stop
ORDER BY position""")

_INSERT = text("""\
INSERT INTO subtrees (log_id, level, number, hash)
VALUES (:log_id, :level, :number, :hash)""")


def fill(connection: Connection) -> None:
    """Inserts the completed subtrees of every log."""
    for log_id in connection.scalars(_LOGS).all():
        frontier: merkle.Frontier = ()
        size = 0
        for leaves in _pages(connection, log_id):
            frontier, completed = merkle.extend(frontier, size, leaves)
            size += len(leaves)
            if completed:
                connection.execute(_INSERT, [_row(log_id, subtree) for subtree in completed])


def _pages(connection: Connection, log_id: int) -> Iterator[Sequence[bytes]]:
    """Yields the leaf hashes of a log, a page at a time."""
    start = 0
    while True:
        page = {"log_id": log_id, "start": start, "stop": start + PAGE_ENTRIES}
        entries = connection.scalars(_PAGE, page).all()
        if not entries:
            return
        yield [merkle.leaf_hash(entry.encode()) for entry in entries]
        start += PAGE_ENTRIES


def _row(log_id: int, subtree: merkle.Subtree) -> dict[str, int | str]:
    level, number, node = subtree
    return {"log_id": log_id, "level": level, "number": number, "hash": node.hex()}

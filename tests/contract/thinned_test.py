"""A checkpoint is deleted only after a later one of the same 256 events."""

import pytest

from firmtrail.database.database import Database
from tests.databases import read, write

COVERED = "DELETE FROM checkpoints WHERE size IN (1, 255, 300)"
UNCOVERED = (
    "DELETE FROM checkpoints",
    "DELETE FROM checkpoints WHERE size = 256",
    "DELETE FROM checkpoints WHERE size <= 256",
    "DELETE FROM checkpoints WHERE size = 301",
    "UPDATE checkpoints SET note = 'x' WHERE size = 1",
    "UPDATE checkpoints SET size = 2 WHERE size = 1",
)


async def checkpoints_of(db: Database, *sizes: int) -> list[int]:
    for size in sizes:
        await write(db, "INSERT INTO checkpoints (log_id, size, note) VALUES (1, $1, '')", size)
    rows = await read(db, "SELECT size FROM checkpoints WHERE log_id = 1 ORDER BY size")
    return [size for [size] in rows]


async def test_only_a_checkpoint_that_a_later_one_covers_is_deleted(db: Database) -> None:
    """Another log's checkpoint covers nothing of this one."""
    await write(db, "INSERT INTO checkpoints (log_id, size, note) VALUES (2, 302, '')")
    assert await checkpoints_of(db, 1, 255, 256, 300, 301) == [1, 255, 256, 300, 301]
    for text in UNCOVERED:
        with pytest.raises(Exception, match="append-only"):
            await write(db, text)
    assert await checkpoints_of(db) == [1, 255, 256, 300, 301]
    await write(db, COVERED)
    assert await checkpoints_of(db) == [256, 301]


async def test_a_new_checkpoint_deletes_those_that_have_become_old(db: Database) -> None:
    assert await checkpoints_of(db, 1, 2, 256, 257, 300, 4351) == [1, 2, 256, 257, 300, 4351]
    assert await checkpoints_of(db, 4352) == [256, 257, 300, 4351, 4352]
    assert await checkpoints_of(db, 4607) == [256, 257, 300, 4351, 4352, 4607]
    assert await checkpoints_of(db, 10_000) == [256, 300, 4352, 4607, 10_000]

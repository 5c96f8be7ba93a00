"""Reads of a log's tree equal a plain recursion over its entries, on every back end."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from firmtrail.database.database import Database, Row, Statement
from firmtrail.eventstore import log, proofs, tiles, tree
from firmtrail.eventstore.merkle import TILE_WIDTH, leaf_hash
from firmtrail.eventstore.proofs import TreeHead
from tests.contract.appended import append
from tests.contract.subtrees import subtrees_of
from tests.databases import new_log, opened, postgres_template, sqlite_template
from tests.inclusion import verify_inclusion
from tests.postgres_server import PostgresServer
from tests.reference import Reference

SIZE = 66_500
"""Three levels: one tile of 256^2 leaves, three full tiles and a partial one of 256, and leaves."""

BATCH = 4_001  # not a multiple of a tile's width
ENTRIES = [f"entry {n} ü" for n in range(SIZE)]
REFERENCE = Reference([entry.encode() for entry in ENTRIES])
CHANCE = random.Random(9162)
EDGES = [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 65_792, SIZE - 1, SIZE]
SIZES = EDGES + [CHANCE.randrange(1, SIZE) for _ in range(10)]

PAIRS = [(CHANCE.randrange(size), size) for size in SIZES for _ in range(4)]
PAIRS += [(size - 1, size) for size in SIZES] + [(0, size) for size in SIZES]


class Metered:
    """A reader that counts queries and rows."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.queries = self.rows = 0

    async def read(self, statement: Statement) -> list[Row]:
        rows = await self._db.read(statement)
        self.queries += 1
        self.rows += len(rows)
        return rows


class Grown(NamedTuple):
    """A log with the entries, between two others."""

    db: Database
    log_id: int


@pytest.fixture(scope="module")
async def grown(
    back_end: PostgresServer | None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Grown]:
    async with contextlib.AsyncExitStack() as stack:
        if back_end is None:
            url = f"sqlite:///{sqlite_file(tmp_path_factory.mktemp('tree'))}"
        else:
            url = stack.enter_context(back_end.fresh_database(postgres_template(back_end)))
        db = await stack.enter_async_context(opened(url))
        before, log_id, after = [await new_log(db, project) for project in ("a", "b", "c")]
        for other in (before, after):
            await append(db, other, *(f"another {n}" for n in range(600)))
        for start in range(0, SIZE, BATCH):
            await append(db, log_id, *ENTRIES[start : start + BATCH])
        yield Grown(db, log_id)


def sqlite_file(folder: Path) -> Path:
    path = folder / "firmtrail.db"
    path.write_bytes(sqlite_template())
    return path


def level_of(level: int, size: int) -> list[bytes]:
    """Returns the hashes of a level of the tree of that size, by the definition."""
    width = TILE_WIDTH**level
    return [REFERENCE.mth(n * width, (n + 1) * width) for n in range(size // width)]


async def test_every_completed_subtree_is_stored_and_no_other(grown: Grown) -> None:
    expected = [
        (level, number, node.hex())
        for level in (1, 2)
        for number, node in enumerate(level_of(level, SIZE))
    ]
    assert await subtrees_of(*grown) == expected
    assert len(expected) == 259 + 1


@pytest.mark.parametrize("sizes", [(255, 1), (256,), (1, 255, 256), (100, 500), (700,)])
async def test_subtrees_are_stored_whatever_the_sizes_of_the_appends(
    db: Database, log_id: int, sizes: tuple[int, ...]
) -> None:
    start = 0
    for size in sizes:
        await append(db, log_id, *ENTRIES[start : start + size])
        start += size
        expected = [(1, n, node.hex()) for n, node in enumerate(level_of(1, start))]
        assert await subtrees_of(db, log_id) == expected


async def append_and_fail(db: Database, log_id: int) -> None:
    entries = [log.NewEntry("device/d1", f"s.{n}", ENTRIES[n]) for n in range(300)]
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(log_id))
        await tx.run(*log.append(log.head_of(rows), entries, [], 1))
        raise ZeroDivisionError


async def test_an_append_that_is_not_committed_leaves_no_subtree(db: Database, log_id: int) -> None:
    with pytest.raises(ZeroDivisionError):
        await append_and_fail(db, log_id)
    assert await subtrees_of(db, log_id) == []


async def test_the_root_at_any_size_is_as_defined(grown: Grown) -> None:
    for size in (0, *SIZES):
        assert await tree.root(*grown, size) == REFERENCE.root(size), size


async def test_any_inclusion_proof_is_as_defined_and_verifies(grown: Grown) -> None:
    for position, size in PAIRS:
        proof = await tree.inclusion(*grown, position, size)
        assert proof == REFERENCE.inclusion(position, size), (position, size)
        head = TreeHead(size, await tree.root(*grown, size))
        leaf = leaf_hash(ENTRIES[position].encode())
        assert verify_inclusion(proof, position, leaf, head)


async def test_any_consistency_proof_is_as_defined_and_verifies(grown: Grown) -> None:
    for old, new in (*PAIRS, (0, 0), (SIZE, SIZE)):
        proof = await tree.consistency(*grown, old, new)
        assert proof == REFERENCE.consistency(old, new), (old, new)
        before = TreeHead(old, await tree.root(*grown, old))
        after = TreeHead(new, await tree.root(*grown, new))
        assert proofs.verify_consistency(proof, before, after)


async def test_every_tile_is_as_defined(grown: Grown) -> None:
    for level in (1, 2):
        hashes = level_of(level, SIZE)
        full, partial = tiles.tiles(level, SIZE)
        for number, width in [*((n, TILE_WIDTH) for n in range(full)), (full, partial)]:
            start = number * TILE_WIDTH
            expected = b"".join(hashes[start : start + width])
            assert await tree.hash_tile(*grown, level, number, width) == expected


async def test_a_tile_of_leaves_and_its_bundle_match_the_entries(grown: Grown) -> None:
    full, partial = tiles.tiles(0, SIZE)
    for number, width in [(0, 256), (100, 256), (full - 1, 256), (full, partial)]:
        start = number * TILE_WIDTH
        entries = [entry.encode() for entry in ENTRIES[start : start + width]]
        hashes = b"".join(REFERENCE.mth(start + n, start + n + 1) for n in range(width))
        assert await tree.hash_tile(*grown, 0, number, width) == hashes
        bundle = b"".join(len(entry).to_bytes(2) + entry for entry in entries)
        assert await tree.bundle(*grown, number, width) == bundle


async def test_a_partial_tile_can_be_read_at_every_smaller_width(grown: Grown) -> None:
    for level in (0, 1):
        hashes = level_of(level, 65_536)
        for width in range(1, TILE_WIDTH + 1):
            assert await tree.hash_tile(*grown, level, 0, width) == b"".join(hashes[:width])


async def test_no_read_costs_more_than_two_tiles_a_level(grown: Grown) -> None:
    """A proof needs two tiles of a level: the entry's own and the last one."""
    db, log_id = grown
    worst = [(128, SIZE), (65_535, SIZE), (66_000, 66_303), (255, 65_535), (32_767, 65_535)]
    for position, size in [*PAIRS, *worst]:
        for reading in (tree.inclusion, tree.consistency):
            metered = Metered(db)
            await reading(metered, log_id, position, size)
            assert metered.queries <= 2
            assert metered.rows <= 2 * TILE_WIDTH * 2, (position, size)
    metered = Metered(db)
    await tree.hash_tile(metered, log_id, 0, 3, 256)
    await tree.root(metered, log_id, 255)
    assert (metered.queries, metered.rows) == (2, 256 + 255)


@pytest.mark.parametrize("size", [SIZE + 1, SIZE + 300, 1 << 40])
async def test_a_read_beyond_the_log_raises_corrupt(grown: Grown, size: int) -> None:
    for reading in (
        tree.root(*grown, size),
        tree.inclusion(*grown, 0, size),
        tree.inclusion(*grown, size - 2, size),
        tree.consistency(*grown, SIZE, size),
        tree.hash_tile(*grown, 0, (size - 1) // TILE_WIDTH, (size - 1) % TILE_WIDTH + 1),
        tree.hash_tile(*grown, 2, 0, 2),
        tree.bundle(*grown, (size - 1) // TILE_WIDTH, (size - 1) % TILE_WIDTH + 1),
    ):
        with pytest.raises(log.Corrupt):
            await reading


async def test_a_proof_is_right_while_the_log_grows_and_after_it_is_closed(
    db: Database, log_id: int
) -> None:
    await append(db, log_id, *ENTRIES[:300])

    async def grow() -> None:
        for start in range(300, 3_000, 9):
            await append(db, log_id, *ENTRIES[start : start + 9])

    growing = asyncio.create_task(grow())
    while not growing.done():
        size = (await log.head(db, log_id)).size
        position = CHANCE.randrange(size)
        assert await tree.inclusion(db, log_id, position, size) == REFERENCE.inclusion(
            position, size
        )
        assert await tree.root(db, log_id, position) == REFERENCE.root(position)
    await growing
    async with db.transaction() as tx:
        await tx.run(log.close(log_id))
    assert await tree.root(db, log_id, 3_000) == REFERENCE.root(3_000)
    assert await tree.consistency(db, log_id, 300, 3_000) == REFERENCE.consistency(300, 3_000)

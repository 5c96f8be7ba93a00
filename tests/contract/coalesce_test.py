"""Reads that arrive together become one query, and each sees every commit before it."""

import asyncio
from collections.abc import Sequence

import pytest

from firmtrail.database.coalesce import KEYS_MAX, Coalescer
from firmtrail.database.database import Database, Given, NoSuchTable, Statement
from tests.databases import write

_SIZES = """\
SELECT given.n, log_heads.size, given.word
FROM given
JOIN log_heads ON log_heads.log_id = given.log_id"""

type Key = tuple[int, str]


class Sizes:
    """Makes queries for the sizes of logs; keeps the keys of each query."""

    def __init__(self, text: str = _SIZES) -> None:
        self.asked: list[Sequence[Key]] = []
        self._text = text

    def __call__(self, keys: Sequence[Key]) -> Statement:
        self.asked.append(keys)
        rows = [(n, *key) for n, key in enumerate(keys)]
        return Statement(self._text, (), Given("n bigint, log_id bigint, word text", rows))


async def test_each_key_gets_its_own_rows(db: Database, log_id: int) -> None:
    sizes = Sizes()
    coalescer = Coalescer[Key](db, sizes)
    keys = [(log_id, "a"), (999, "b"), (log_id, "c")]
    answers = await asyncio.gather(*map(coalescer.get, keys))
    assert [[tuple(row) for row in rows] for rows in answers] == [[(0, "a")], [], [(0, "c")]]
    assert len(sizes.asked) == 1


async def test_the_same_key_is_queried_once(db: Database, log_id: int) -> None:
    sizes = Sizes()
    coalescer = Coalescer[Key](db, sizes)
    answers = await asyncio.gather(*(coalescer.get((log_id, "a")) for _ in range(20)))
    assert sizes.asked == [[(log_id, "a")]]
    assert all([tuple(row) for row in rows] == [(0, "a")] for rows in answers)


async def test_a_query_has_a_limited_number_of_keys(db: Database, log_id: int) -> None:
    sizes = Sizes()
    coalescer = Coalescer[Key](db, sizes)
    await asyncio.gather(*(coalescer.get((log_id, str(n))) for n in range(KEYS_MAX + 1)))
    assert [len(keys) for keys in sizes.asked] == [KEYS_MAX, 1]


async def test_a_read_sees_what_was_committed_before_it(db: Database, log_id: int) -> None:
    """Other readers keep a query for the same key in flight all the time."""
    coalescer = Coalescer[Key](db, Sizes())
    stopped = asyncio.Event()

    async def keep_reading() -> None:
        while not stopped.is_set():
            await coalescer.get((log_id, "a"))

    readers = [asyncio.create_task(keep_reading()) for _ in range(3)]
    for size in range(1, 30):
        await write(db, "UPDATE log_heads SET size = $2 WHERE log_id = $1", log_id, size)
        [row] = await coalescer.get((log_id, "a"))
        assert tuple(row) == (size, "a")
    stopped.set()
    await asyncio.gather(*readers)


async def test_an_error_reaches_every_waiter_and_the_next_read_is_served(
    db: Database, log_id: int
) -> None:
    sizes = Sizes("SELECT given.n FROM given JOIN nowhere ON TRUE")
    coalescer = Coalescer[Key](db, sizes)
    answers = await asyncio.gather(
        *(coalescer.get((log_id, word)) for word in "aab"), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [NoSuchTable] * 3
    with pytest.raises(NoSuchTable):
        await coalescer.get((log_id, "a"))
    assert len(sizes.asked) == 2


async def test_a_cancelled_waiter_cancels_no_other_one(db: Database, log_id: int) -> None:
    coalescer = Coalescer[Key](db, Sizes())
    leaver = asyncio.create_task(coalescer.get((log_id, "a")))
    stayer = asyncio.create_task(coalescer.get((log_id, "a")))
    await asyncio.sleep(0)
    leaver.cancel()
    assert [tuple(row) for row in await stayer] == [(0, "a")]
    assert leaver.cancelled()

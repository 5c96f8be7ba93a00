"""The access record is written before a read begins, in batches, and listed by its index."""

import asyncio
import random
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest

from firmtrail.access import reads
from firmtrail.access.reads import Read, ReadFilter, Reads
from firmtrail.database.database import Database, Transaction

ACTORS = ("user/u_1", "user/u_2", "token/t_1", "system")


def new_read(n: int, *, at_ms: int = 0, project: str = "acme", actor: str = "user/u_1") -> Read:
    return Read(project, at_ms, f"r{n:04}", actor, "/events", '{"log":1}')


async def test_a_read_is_listed_once_it_is_added(db: Database) -> None:
    added = new_read(1, at_ms=5)
    await Reads(db).add(added)
    assert await reads.page(db, ReadFilter("acme"), limit=9) == [added]


async def test_reads_that_begin_together_are_written_together(db: Database) -> None:
    record, commits = Reads(db), 0
    transaction = db.transaction

    def counting() -> AbstractAsyncContextManager[Transaction]:
        nonlocal commits
        commits += 1
        return transaction()

    db.transaction = counting  # type: ignore[method-assign]
    await asyncio.gather(*(record.add(new_read(n)) for n in range(700)))
    assert commits <= 3
    assert await reads.count(db, ReadFilter("acme")) == 700


async def test_a_read_that_can_not_be_recorded_does_not_begin(db: Database) -> None:
    """Adds two records of one request, which the table refuses: both callers get an error."""
    record = Reads(db)
    adding = [record.add(new_read(1)), record.add_once_a_minute(new_read(1))]
    failures = await asyncio.gather(*adding, return_exceptions=True)
    assert all(isinstance(failure, Exception) for failure in failures), failures
    assert await reads.count(db, ReadFilter("acme")) == 0
    await record.add_once_a_minute(new_read(1))
    assert await reads.count(db, ReadFilter("acme")) == 1


async def test_frequent_reads_of_one_actor_are_recorded_once_a_minute(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Reads(db)
    for n in range(50):
        await record.add_once_a_minute(new_read(n, actor=ACTORS[n % 2]))
    assert await reads.count(db, ReadFilter("acme")) == 2
    record._remembered.clear()  # as a minute does
    await record.add_once_a_minute(new_read(51))
    assert await reads.count(db, ReadFilter("acme")) == 3


async def test_pages_and_counts_agree_with_a_model(db: Database) -> None:
    chance = random.Random(1)
    all_reads = [
        new_read(
            n,
            at_ms=chance.randint(0, 20),
            project=chance.choice(["acme", "other"]),
            actor=chance.choice(ACTORS),
        )
        for n in range(120)
    ]
    record = Reads(db)
    await asyncio.gather(*(record.add(each) for each in all_reads))
    for _ in range(40):
        which = ReadFilter(
            chance.choice(["acme", "other", "none"]),
            chance.randint(0, 10),
            chance.randint(5, 22),
            chance.choice([None, *ACTORS]),
        )
        wanted = [
            each
            for each in all_reads
            if each.project == which.project
            and which.since_ms <= each.at_ms < which.until_ms
            and which.actor in {None, each.actor}
        ]
        found = await paged(db, which, chance.randint(1, 30))
        assert sorted(found) == sorted(wanted)
        assert all(a[1:3] > b[1:3] for a, b in pairwise(found))
        assert await reads.count(db, which) == len(wanted)


async def paged(db: Database, which: ReadFilter, limit: int) -> list[Read]:
    found: list[Read] = []
    after: tuple[int, str] | None = None
    while page := await reads.page(db, which, after=after, limit=limit):
        found += page
        after = (page[-1].at_ms, page[-1].request_id)
    return found

"""Postgres finds what a commit names by its keys, whatever it knows of the tables.

What it doesn't know it must not guess: a plan that reads all of a log for each commit is right, and
the slower the longer the log is. So the rows that a transaction fetched are counted, not its time.
"""

from collections.abc import AsyncIterator

import pytest

from firmtrail.eventstore import log
from firmtrail.eventstore.database import Database, Statement
from firmtrail.projections import device_current, device_history, fold, generations
from firmtrail.projections.rebuild import rebuild
from firmtrail.record import Recorder
from tests.databases import new_log, opened, write
from tests.fleet import NOON_MS, register, report

DEVICES = [f"d{number}" for number in range(20)]
REPORTS = 1_000
NAMED = DEVICES[:12]

_FETCHED = Statement("""\
SELECT CAST(coalesce(sum(coalesce(idx_tup_fetch, 0) + seq_tup_read), 0) AS bigint)
FROM pg_stat_xact_user_tables
WHERE relname IN ('events', 'device_current', 'device_history')""")
"""Rows so far, by this connection: earlier transactions' may be among them, so two readings are
subtracted."""


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Database]:
    """Nothing of this is SQLite's."""
    async with opened(postgres_url) as db:
        yield db


def of_a_commit(log_id: int, generation: int) -> dict[str, Statement]:
    """What a commit reads first."""
    late = [(device, NOON_MS) for device in NAMED]
    return {
        "identities": log.find(log_id, [(f"device/{device}", "s.1") for device in NAMED]),
        "devices": device_current.load(log_id, generation, NAMED),
        "behind": device_history.later(log_id, generation, late),
    }


async def fill(recorder: Recorder, log_id: int) -> None:
    await register(recorder, log_id, *DEVICES)
    for start in range(0, REPORTS, 100):
        sent = [
            report(device=DEVICES[n % len(DEVICES)], occurred_at_ms=NOON_MS + n + 1)
            for n in range(start, start + 100)
        ]
        await recorder.report(log_id, sent)


async def fetched(db: Database, log_id: int, generation: int = 1) -> dict[str, int]:
    """How many rows each statement fetches, each in a transaction of its own."""
    counts = {}
    for name, statement in of_a_commit(log_id, generation).items():
        async with db.transaction() as tx:
            [[before]], _, [[after]] = await tx.run(_FETCHED, statement, _FETCHED)
            counts[name] = after - before
    return counts


def are_few(counts: dict[str, int]) -> bool:
    """Not more than two rows each: the one that is asked for, and one to find which that is."""
    return max(counts.values()) <= 2 * len(NAMED)


async def test_plans_from_before_the_first_row_serve_when_there_are_many(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    for _ in range(6):  # once would do; six times, should plans be made for values again
        await fetched(db, log_id)
    await fill(recorder, log_id)
    counts = await fetched(db, log_id)
    assert are_few(counts), counts


async def test_a_log_that_no_statistics_know_is_not_read_whole(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await fill(recorder, log_id)
    await write(db, "ANALYZE")
    unknown = await new_log(db, "other")
    await fill(recorder, unknown)
    counts = await fetched(db, unknown)
    assert are_few(counts), counts


async def test_a_generation_that_no_statistics_know_is_not_read_whole(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    await fill(recorder, log_id)
    await write(db, "ANALYZE")
    build = await db.play(generations.claim, log_id, frozenset(fold.REVISIONS), "me", 0)
    async for _ in rebuild(db, build):
        pass
    counts = await fetched(db, log_id, build.generation)
    assert are_few(counts), counts


async def test_a_page_of_devices_is_not_sorted_out_of_all(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    for start in range(0, 3_000, 1_000):
        await register(recorder, log_id, *[f"d{n}" for n in range(start, start + 1_000)])
    async with db.snapshot() as snapshot:
        [[before]] = await snapshot.read(_FETCHED)
        _, found = await device_current.page(
            snapshot, (log_id, "acme"), device_current.Filter(), after="", limit=10
        )
        [[after]] = await snapshot.read(_FETCHED)
    assert len(found) == 10
    assert after - before <= 2 * len(found)

"""The log has positions without gaps, pages, times, and the frontier of its tree."""

import re
from bisect import bisect_right

import pytest

from firmtrail.database.database import Database, Statement
from firmtrail.database.sqlite import SQLite
from firmtrail.eventstore import log, merkle, short_streams, sizes
from tests.contract.appended import append
from tests.databases import new_log, raw, read, write
from tests.fleet import NOON_MS

TIMES = [NOON_MS + at for at in (0, 0, 5, 5, 5, 9, 100)]


async def entries_of(db: Database, log_id: int, start: int, stop: int) -> list[tuple[int, str]]:
    return [
        (position, text)
        async for page in log.read(db, log_id, start, stop)
        for position, _, text in page
    ]


async def test_a_new_log_is_empty(db: Database, log_id: int) -> None:
    head = await log.head(db, log_id)
    assert (head.size, head.frontier, head.number, head.project) == (0, (), 1, "acme")
    assert await entries_of(db, log_id, 0, 0) == []
    assert await sizes.at(db, log_id, NOON_MS) == 0


async def test_a_projects_logs_are_numbered_from_1(db: Database, log_id: int) -> None:
    second, other = await new_log(db, "acme"), await new_log(db, "other")
    assert (await log.head(db, second)).number == 2
    assert (await log.head(db, other)).number == 1
    assert len({log_id, second, other}) == 3


async def test_a_log_is_found_only_by_its_project_and_number(db: Database, log_id: int) -> None:
    second, other = await new_log(db, "acme"), await new_log(db, "other")
    assert [await log.by_number(db, "acme", number) for number in (1, 2)] == [log_id, second]
    assert await log.by_number(db, "other", 1) == other
    for project, number in (("acme", 0), ("acme", 3), ("other", 2), ("", 1)):
        assert await log.by_number(db, project, number) is None


async def plan_of(db: Database, text: str, *args: int | str) -> str:
    if isinstance(db, SQLite):
        explained = f"EXPLAIN QUERY PLAN {text.replace('$', '?')}"
        return str([row[3] for row in await raw(db, explained, *args)])
    return str(await db.read(Statement(f"EXPLAIN {text}", args)))


async def test_a_stream_is_found_by_its_name_and_not_by_scanning_the_log(
    db: Database, log_id: int
) -> None:
    plan = await plan_of(db, short_streams._READ_STREAM, log_id, "project/acme", 1_000)
    assert re.search(r"log_id=\? AND stream=\?|Index Cond:.*stream = ", plan), plan


async def test_entries_have_positions_from_0_and_are_stored_as_written(
    db: Database, log_id: int
) -> None:
    await append(db, log_id, "a", "b")
    head = await append(db, log_id, 'c "quoted" \\ ü 🛰\u2028')
    assert head.size == 3
    assert await entries_of(db, log_id, 0, 3) == [
        (0, "a"),
        (1, "b"),
        (2, 'c "quoted" \\ ü 🛰\u2028'),
    ]


async def test_logs_do_not_see_each_other(db: Database, log_id: int) -> None:
    other = await new_log(db, "other")
    await append(db, log_id, "a")
    await append(db, other, "b", "c")
    assert await entries_of(db, log_id, 0, 1) == [(0, "a")]
    assert await entries_of(db, other, 0, 2) == [(0, "b"), (1, "c")]


async def test_the_head_has_the_frontier_of_the_stored_texts(db: Database, log_id: int) -> None:
    texts = [f"entry {n}" for n in range(13)]
    await append(db, log_id, *texts[:6])
    head = await append(db, log_id, *texts[6:])
    leaves = (merkle.leaf_hash(text.encode()) for text in texts)
    assert head.frontier == merkle.extend((), 0, leaves).frontier


@pytest.mark.parametrize("size", [0, 1, log.PAGE_ENTRIES, log.PAGE_ENTRIES + 1])
async def test_a_read_gives_whole_pages_in_order(db: Database, log_id: int, size: int) -> None:
    if size:
        await append(db, log_id, *map(str, range(size)))
    pages = [page async for page in log.read(db, log_id, 0, size)]
    assert [position for page in pages for position, _, _ in page] == list(range(size))
    assert all(len(page) == log.PAGE_ENTRIES for page in pages[:-1])


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (2, 5), (4, 5), (3, 3), (5, 2)])
async def test_a_read_may_begin_and_end_anywhere(
    db: Database, log_id: int, start: int, stop: int
) -> None:
    await append(db, log_id, *"abcde")
    assert await entries_of(db, log_id, start, stop) == list(enumerate("abcde"))[start:stop]


async def test_a_read_after_the_end_reports_a_corrupt_log(db: Database, log_id: int) -> None:
    await append(db, log_id, "a")
    with pytest.raises(log.Corrupt, match="missing"):
        await entries_of(db, log_id, 0, 2)


async def test_reading_a_stream_gives_no_other_entries(db: Database, log_id: int) -> None:
    await append(db, log_id, "a", "b")
    assert [text for _, _, text in await short_streams.read(db, log_id, "device/d1")] == ["a", "b"]
    assert await short_streams.read(db, log_id, "device/d") == []


async def test_a_time_gives_the_number_of_events_recorded_until_then(
    db: Database, log_id: int
) -> None:
    for n, at_ms in enumerate(TIMES):
        await append(db, log_id, str(n), at_ms=at_ms)
    for at_ms in range(NOON_MS - 1, NOON_MS + 102):
        assert await sizes.at(db, log_id, at_ms) == bisect_right(TIMES, at_ms), at_ms


async def test_a_free_text_can_be_erased_once(db: Database, log_id: int) -> None:
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(log_id))
        entry = log.NewEntry("device/d1", "s.1", "a")
        await tx.run(
            *log.append(log.head_of(rows), [entry], [log.ErasableText(0, "5a17", "free")], NOON_MS)
        )
    for erased in ([(0, "free")], []):
        async with db.transaction() as tx:
            [rows] = await tx.run(log.erase_text(log_id, 0))
        assert [tuple(row) for row in rows] == erased
    assert await read(db, "SELECT text FROM texts") == []
    assert await entries_of(db, log_id, 0, 1) == [(0, "a")]


async def append_and_fail(db: Database, log_id: int) -> None:
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(log_id))
        entry = log.NewEntry("device/d1", "s.1", "a")
        await tx.run(*log.append(log.head_of(rows), [entry], [], NOON_MS))
        raise ZeroDivisionError


async def test_an_append_that_is_not_committed_leaves_nothing(db: Database, log_id: int) -> None:
    with pytest.raises(ZeroDivisionError):
        await append_and_fail(db, log_id)
    assert (await log.head(db, log_id)).size == 0
    assert (await append(db, log_id, "b")).size == 1


async def test_the_head_of_a_closed_log_says_that_it_is_closed(db: Database, log_id: int) -> None:
    async with db.transaction() as tx:
        await tx.run(log.close(log_id))
    assert (await log.head(db, log_id)).closed


async def test_a_head_has_the_time_of_the_logs_clock(db: Database, log_id: int) -> None:
    await write(db, "UPDATE log_heads SET recorded_at_ms = now_ms() WHERE log_id = $1", log_id)
    head = await log.head(db, log_id)
    assert 0 <= head.now_ms - head.recorded_at_ms < 10_000


async def test_the_newest_logs_and_the_heads_of_several_logs_are_found(
    db: Database, log_id: int
) -> None:
    others = [await new_log(db), await new_log(db, "other"), await new_log(db)]
    await append(db, others[0], "a")
    assert [head.number for head in await log.newest(db, "acme", limit=2)] == [3, 2]
    [newest] = await log.newest(db, "acme")
    assert newest.log_id == others[2]
    assert await log.newest(db, "nobody") == []
    heads = await log.heads(db, [others[0], log_id, others[0]])
    assert [(head.log_id, head.size) for head in heads] == [(log_id, 0), (others[0], 1)]

"""A statement and its errors mean the same on both back ends."""

import asyncio
import contextlib
import sqlite3

import asyncpg
import pytest

from firmtrail.database.database import Database, Given, NoSuchTable, Statement, Unavailable, Value
from firmtrail.database.postgres import Postgres
from tests.databases import opened, read, write

TEXTS: list[Value] = [
    "",
    " ",
    "1",
    "1e3",
    "null",
    "true",
    '["a"]',
    '{"a": 1}',
    'it\'s "quoted" \\ and \\u0041',
    "".join(map(chr, range(1, 32))),
    "\u007f\u0085\u2028\u2029\ufeff",
    "ü 🛰 \U0010ffff",
    "$1 ?1 :a %s {}",
    "x" * 100_000,
    None,
]
NUMBERS: list[Value] = [0, -1, 1 << 31, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), None]

_ECHO = "SELECT given.n, given.number, given.word FROM given ORDER BY given.n"
_ECHO_COLUMNS = "n bigint, number bigint, word text"


async def fetch(db: Database, statement: Statement) -> list[tuple[Value, ...]]:
    return [tuple(row) for row in await db.read(statement)]


async def test_given_rows_arrive_as_they_were_given(db: Database) -> None:
    rows: list[tuple[Value, ...]] = [(n, None, text) for n, text in enumerate(TEXTS)]
    rows += [(100 + n, number, None) for n, number in enumerate(NUMBERS)]
    assert await fetch(db, Statement(_ECHO, (), Given(_ECHO_COLUMNS, rows))) == rows


async def test_arguments_arrive_as_they_were_given(db: Database) -> None:
    for text in TEXTS:
        assert await fetch(db, Statement("SELECT CAST($1 AS text) AS word", (text,))) == [(text,)]
    for number in NUMBERS:
        statement = Statement("SELECT CAST($1 AS bigint) AS number", (number,))
        assert await fetch(db, statement) == [(number,)]


async def test_given_may_be_empty(db: Database) -> None:
    assert await fetch(db, Statement(_ECHO, (), Given(_ECHO_COLUMNS, []))) == []


async def test_arguments_and_given_work_together_and_an_argument_may_be_used_twice(
    db: Database,
) -> None:
    text = """\
WITH doubled AS (SELECT given.n * $2 AS n FROM given)
SELECT doubled.n + $1, doubled.n + $2, doubled.n + $1
FROM doubled
ORDER BY doubled.n"""
    statement = Statement(text, (100, 2), Given("n bigint", [(1,), (2,)]))
    assert await fetch(db, statement) == [(102, 4, 102), (104, 6, 104)]


async def test_rows_come_in_the_order_of_given_and_within_it_in_the_requested_order(
    db: Database,
) -> None:
    text = """\
SELECT given.n, other.column1
FROM given
CROSS JOIN (VALUES (2), (3), (1)) AS other
ORDER BY given.n, other.column1 DESC"""
    rows = await fetch(db, Statement(text, (), Given("n bigint", [(n,) for n in range(1000)])))
    assert rows == [(n, other) for n in range(1000) for other in (3, 2, 1)]


async def test_stored_text_sorts_by_its_bytes(db: Database) -> None:
    words = ["B", "a", "b", "A", "ä", "_", "0", "\uffff", "\U00010000"]
    insert = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT 'acme', given.word, 0
FROM given
WHERE TRUE"""
    async with db.transaction() as tx:
        await tx.run(Statement(insert, (), Given("word text", [(word,) for word in words])))
    rows = await read(db, "SELECT device FROM device_seen ORDER BY device")
    assert [row[0] for row in rows] == sorted(words, key=str.encode)


_COUNT_UP = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT 'acme', given.device, $1
FROM given
WHERE TRUE
ON CONFLICT (project, device) DO UPDATE SET seen_at_ms = device_seen.seen_at_ms + 1
RETURNING device, seen_at_ms"""
_SEEN = Statement("SELECT device, seen_at_ms FROM device_seen ORDER BY device LIMIT 9")


async def test_a_transactions_statements_run_in_order_and_see_each_other(db: Database) -> None:
    count_up = Statement(_COUNT_UP, (5,), Given("device text", [("d1",)]))
    async with db.transaction() as tx:
        results = await tx.run(count_up, _SEEN, count_up)
        [again] = await tx.run(_SEEN)
        assert await fetch(db, _SEEN) == []
    assert [[tuple(row) for row in rows] for rows in results] == [
        [("d1", 5)],
        [("d1", 5)],
        [("d1", 6)],
    ]
    assert [tuple(row) for row in again] == [("d1", 6)]
    assert await fetch(db, _SEEN) == [("d1", 6)]


async def write_and_wait(db: Database, written: asyncio.Event) -> None:
    async with db.transaction() as tx:
        await tx.run(Statement(_COUNT_UP, (5,), Given("device text", [("d1",)])))
        written.set()
        await asyncio.sleep(60)


async def test_a_cancelled_transaction_is_rolled_back_and_the_next_one_begins(
    db: Database,
) -> None:
    written = asyncio.Event()
    writing = asyncio.create_task(write_and_wait(db, written))
    await written.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await fetch(db, _SEEN) == []
    await write(db, "INSERT INTO device_seen VALUES ('acme', 'd2', 1)")
    assert await fetch(db, _SEEN) == [("d2", 1)]


async def test_a_transaction_without_statements_costs_nothing(db: Database) -> None:
    async with db.transaction():
        pass


async def fail_and_continue(db: Database) -> None:
    """Ignores an error inside its transaction."""
    async with db.transaction() as tx:
        await tx.run(Statement("INSERT INTO device_seen VALUES ('acme', 'd1', 1)"))
        with contextlib.suppress(sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError):
            await tx.run(Statement("INSERT INTO device_seen VALUES ('acme', 'd1', 2)"))


async def test_no_transaction_seems_committed_when_it_was_not(db: Database) -> None:
    """After a failed statement Postgres answers COMMIT with ROLLBACK and no error."""
    if isinstance(db, Postgres):
        with pytest.raises(AssertionError):
            await fail_and_continue(db)
        assert await fetch(db, _SEEN) == []
    else:
        await fail_and_continue(db)
        assert await fetch(db, _SEEN) == [("d1", 1)]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("SELECT position FROM nowhere", NoSuchTable),
        ("SELECT nothing FROM log_heads", Exception),
        ("SELECT FROM WHERE", Exception),
    ],
)
async def test_a_wrong_text_is_a_bug_and_not_unavailable(
    db: Database, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        await read(db, text)
    assert not isinstance(raised.value, Unavailable)
    assert await fetch(db, _SEEN) == []


async def test_a_snapshot_stays_as_it_was_while_others_write_and_read(db: Database) -> None:
    await write(db, "INSERT INTO device_seen VALUES ('acme', 'd1', 1)")
    async with db.snapshot() as snapshot:
        await write(db, "INSERT INTO device_seen VALUES ('acme', 'd2', 2)")
        assert [tuple(row) for row in await snapshot.read(_SEEN)] == [("d1", 1)]
        assert await fetch(db, _SEEN) == [("d1", 1), ("d2", 2)]
        assert [tuple(row) for row in await snapshot.read(_SEEN)] == [("d1", 1)]
    async with db.snapshot() as snapshot:
        assert len(await snapshot.read(_SEEN)) == 2


async def test_a_snapshot_writes_nothing(db: Database) -> None:
    async with db.snapshot() as snapshot:
        with pytest.raises(Unavailable):
            await snapshot.read(Statement("INSERT INTO device_seen VALUES ('acme', 'd1', 1)"))
    assert await fetch(db, _SEEN) == []


async def test_what_comes_after_the_end_of_a_database_is_unavailable(database_url: str) -> None:
    async with opened(database_url) as db:
        pass
    with pytest.raises(Unavailable):
        await read(db, "SELECT 1 LIMIT 1")
    with pytest.raises(Unavailable):
        await write(db, "INSERT INTO device_seen VALUES ('acme', 'd1', 1)")
    for reading in (db.moment(), db.snapshot()):
        with pytest.raises(Unavailable):
            async with reading:
                pytest.fail("it began")

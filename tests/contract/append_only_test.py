"""Entries in the log stay: any change other than an append is refused, to other programs too."""

import contextlib
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from firmtrail.access import reads
from firmtrail.access.reads import Read, Reads
from firmtrail.database.database import AppendRefused, Database
from firmtrail.eventstore import log
from firmtrail.projections import device_current, device_pages
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks
from firmtrail.schema.migrate import Roles, migrate
from tests.databases import (
    INSTANCE,
    create_role,
    migrating,
    new_log,
    opened,
    sqlite_template,
    write,
)
from tests.fleet import receipts, register, report
from tests.losses import owned
from tests.postgres_server import PostgresServer
from tests.publishing import new_publisher

ROLE = "firmtrail_server"

COLUMNS = "log_id, position, stream, event_id, recorded_at_ms, entry"
CHANGES = (
    "UPDATE events SET entry = 'x' WHERE position = 1",
    "UPDATE events SET position = 9 WHERE position = 1",
    "UPDATE events SET log_id = 2",
    "DELETE FROM events WHERE position = 1",
    "DELETE FROM events",
)
GAPS = (
    f"INSERT INTO events ({COLUMNS}) VALUES (1, 1, 'new', 'new', 1, 'x')",
    f"INSERT INTO events ({COLUMNS}) VALUES (1, 3, 'device/d1', 'r.a', 1, 'x')",
)
REPLACEMENTS = (
    *(gap.replace("INSERT", "INSERT OR REPLACE") for gap in GAPS),
    f"REPLACE INTO events ({COLUMNS}) VALUES (1, 1, 'new', 'new', 1, 'x')",
    f"INSERT OR IGNORE INTO events ({COLUMNS}) VALUES (1, 4, 'new', 'new', 1, 'x')",
    f"INSERT INTO events ({COLUMNS}) VALUES (1, -1, 'new', 'new', 1, 'x')",
    f"INSERT INTO events ({COLUMNS}) VALUES (1, 1, 'new', 'new', 1, 'x') "
    "ON CONFLICT (log_id, position) DO UPDATE SET entry = excluded.entry",
    *(
        f"REPLACE INTO events ({rowid}, {COLUMNS}) VALUES (2, {key}, 'new', 'new', 1, 'x')"
        for rowid in ("rowid", "oid", "_rowid_")
        for key in ("1, 3", "2, 0", "9, 0")
    ),
    "UPDATE OR REPLACE events SET position = 0 WHERE position = 1",
)
SUBTREE_CHANGES = (
    "UPDATE subtrees SET hash = 'x' WHERE number = 1",
    "UPDATE subtrees SET number = 9 WHERE number = 1",
    "UPDATE subtrees SET log_id = 2",
    "DELETE FROM subtrees WHERE number = 1",
    "DELETE FROM subtrees",
)
SUBTREE_AGAIN = "INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, 1, 1, 'x')"
SUBTREE_REPLACEMENTS = (
    SUBTREE_AGAIN,
    SUBTREE_AGAIN.replace("INSERT", "INSERT OR REPLACE"),
    f"{SUBTREE_AGAIN} ON CONFLICT (log_id, level, number) DO UPDATE SET hash = excluded.hash",
    "INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, 1, 3, 'x')",
    "INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, 2, 1, 'x')",
    "INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, 1, -1, 'x')",
    "UPDATE OR REPLACE subtrees SET number = 0 WHERE number = 1",
)
PLANTED_IDENTITY = (
    "INSERT INTO identities (log_id, stream, event_id, position) VALUES (1, 'device/d1', 'r.x', 2)"
)
IDENTITY_CHANGES = (
    "UPDATE identities SET position = 0 WHERE position = 1",
    "UPDATE identities SET event_id = 'r.b' WHERE event_id = 'r.a'",
    "UPDATE identities SET log_id = 2",
    "DELETE FROM identities WHERE position = 1",
    "DELETE FROM identities",
    "TRUNCATE identities",
    PLANTED_IDENTITY,
    f"{PLANTED_IDENTITY} ON CONFLICT DO NOTHING",
)
PARTITION_CHANGES = (
    *(text.replace("events", "events_0") for text in CHANGES),
    *(text.replace("events", "events_0") for text in GAPS),
    "TRUNCATE events_0",
    "TRUNCATE events_100000000",
    f"INSERT INTO events_100000000 ({COLUMNS}) VALUES (1, 100000000, 'new', 'new', 1, 'x')",
)
EVENTS = "SELECT * FROM events ORDER BY log_id, position"
IDENTITIES = "SELECT * FROM identities ORDER BY log_id, position"
SUBTREES = "SELECT * FROM subtrees ORDER BY log_id, level, number"


async def filled(db: Database) -> int:
    """Makes a log of three events, the last with the event id r.a, and two subtrees."""
    log_id, recorder = await new_log(db), Recorder(db)
    for number in (0, 1):
        await write(db, "INSERT INTO subtrees VALUES ($1, 1, $2, 'made up')", log_id, number)
    await register(recorder, log_id, "d1", "d2")
    await receipts(recorder, log_id, report(report_id="a", detail="free text"))
    return log_id


@pytest.fixture(scope="module")
async def sqlite_filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("append_only") / "firmtrail.db"
    path.write_bytes(sqlite_template())
    async with opened(f"sqlite:///{path}") as db:
        assert await filled(db) == 1
    return path


@pytest.fixture
def stranger(sqlite_filled: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another program, with SQLite's own defaults."""
    with contextlib.closing(sqlite3.connect(sqlite_filled, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    "text", [*CHANGES, *GAPS, *REPLACEMENTS, *SUBTREE_CHANGES, *SUBTREE_REPLACEMENTS]
)
def test_an_embedded_log_refuses_every_other_statement(
    stranger: sqlite3.Connection, text: str
) -> None:
    everything = (EVENTS.replace("*", "rowid, *"), SUBTREES)
    before = [stranger.execute(rows).fetchall() for rows in everything]
    refusals = (sqlite3.IntegrityError, sqlite3.OperationalError)  # no other program can prune
    with pytest.raises(refusals, match=r"append-only|no such function: leaf_hash"):
        stranger.execute(text)
    assert [len(rows) for rows in before] == [3, 2]
    assert [stranger.execute(rows).fetchall() for rows in everything] == before


@pytest.fixture(scope="module")
async def filled_url(postgres: PostgresServer, postgres_template: str) -> AsyncIterator[str]:
    with postgres.fresh_database(postgres_template) as url:
        async with opened(url) as db:
            assert await filled(db) == 1
        yield url


@pytest.fixture
async def owner(filled_url: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to a Postgres database with three events."""
    connection = await asyncpg.connect(filled_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("replication_role", ["origin", "replica"])
@pytest.mark.parametrize(
    "text",
    [
        *(*CHANGES, "TRUNCATE events", "TRUNCATE events CASCADE"),
        *(*SUBTREE_CHANGES, "TRUNCATE subtrees", "TRUNCATE subtrees CASCADE"),
        *IDENTITY_CHANGES,
    ],
)
async def test_a_log_on_postgres_refuses_changes_by_its_owner(
    owner: asyncpg.Connection, text: str, replication_role: str
) -> None:
    await owner.execute(f"SET session_replication_role = {replication_role}")
    before = [await owner.fetch(rows) for rows in (EVENTS, IDENTITIES, SUBTREES)]
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await owner.execute(text)
    assert [len(rows) for rows in before] == [3, 3, 2]
    assert [await owner.fetch(rows) for rows in (EVENTS, IDENTITIES, SUBTREES)] == before


@pytest.mark.parametrize("replication_role", ["origin", "replica"])
@pytest.mark.parametrize("text", PARTITION_CHANGES)
async def test_a_partition_refuses_what_the_whole_table_refuses(
    owner: asyncpg.Connection, text: str, replication_role: str
) -> None:
    await owner.execute(f"SET session_replication_role = {replication_role}")
    before = [await owner.fetch(rows) for rows in (EVENTS, IDENTITIES)]
    with pytest.raises(REFUSED, match=r"append-only|duplicate key"):
        await owner.execute(text)
    assert [await owner.fetch(rows) for rows in (EVENTS, IDENTITIES)] == before


async def test_a_row_that_is_appended_to_a_partition_by_its_name_has_its_identity(
    owner: asyncpg.Connection,
) -> None:
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute(LOCK)
    await owner.execute(_of_strangers(3).replace("events", "events_0"))
    identity = "SELECT position FROM identities WHERE log_id = 1 AND stream = 'n3'"
    assert await owner.fetchval(identity) == 3
    await transaction.rollback()


def _of_strangers(*positions: int) -> str:
    rows = ", ".join(f"(1, {n}, 'n{n}', 'n', 1, 'x')" for n in positions)
    return f"INSERT INTO events ({COLUMNS}) VALUES {rows}"


AHEAD = [_of_strangers(*rows) for rows in ([3], [4], [-1], [10_000_000], [3, 4], [4, 3])]
OTHER_SUBTREES = tuple(
    f"INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, {key}, 'x')"
    for key in ("1, 1", "1, 3", "2, 1", "1, -1")
)
REFUSED = (asyncpg.RaiseError, asyncpg.UniqueViolationError)
"""The key refuses a position that is taken, before the trigger sees the row."""
LOCK = "UPDATE log_heads SET size = size WHERE log_id = 1"


@pytest.mark.parametrize("replication_role", ["origin", "replica"])
@pytest.mark.parametrize("text", [*GAPS, *AHEAD, SUBTREE_AGAIN, *OTHER_SUBTREES])
async def test_a_log_on_postgres_refuses_rows_that_are_not_appended(
    owner: asyncpg.Connection, text: str, replication_role: str
) -> None:
    await owner.execute(f"SET session_replication_role = {replication_role}")
    with pytest.raises(REFUSED, match=r"append-only|duplicate key"):
        await owner.execute(text)


@pytest.mark.parametrize(
    ("rows", "is_taken"),
    [
        ([3], True),
        ([3, 4, 5], True),
        ([4], False),
        ([3, 5], False),
        ([4, 3], True),
        ([5, 3], False),
        ([2], False),
    ],
)
async def test_a_transaction_with_the_head_locked_can_append_only_the_next_positions(
    owner: asyncpg.Connection, rows: list[int], is_taken: bool
) -> None:
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute(LOCK)
    try:
        await owner.execute(_of_strangers(*rows))
    except REFUSED:
        assert not is_taken
    else:
        assert is_taken
    finally:
        await transaction.rollback()


async def test_a_head_in_another_schema_does_not_count(owner: asyncpg.Connection) -> None:
    await owner.execute("CREATE TEMP TABLE log_heads AS SELECT * FROM public.log_heads")
    async with owner.transaction():
        await owner.execute("UPDATE pg_temp.log_heads SET size = 3")
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            async with owner.transaction():
                await owner.execute(AHEAD[0])


@pytest.mark.parametrize(
    "planted",
    [_of_strangers(1), "INSERT INTO texts (log_id, position, salt, text) VALUES (1, 1, '', '')"],
)
async def test_a_row_ahead_of_the_head_makes_the_log_refuse_appends(
    database_url: str, planted: str
) -> None:
    async with opened(database_url) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, "d1")
    async with owned(database_url) as run:
        await run(planted)
    async with opened(database_url) as db:
        with pytest.raises(AppendRefused, match="takes no appends"):
            await receipts(Recorder(db), log_id, report(report_id="a", detail="free text"))


@pytest.fixture(scope="module")
async def served_url(postgres: PostgresServer, postgres_template: str) -> AsyncIterator[str]:
    """The URL of a database, for the role that serves."""
    with postgres.fresh_database(postgres_template) as url:
        await create_role(url, ROLE)
        await migrate(migrating(url), INSTANCE, Roles(service=ROLE))
        yield url.replace("postgres@", f"{ROLE}@")


@pytest.mark.parametrize(
    "text",
    [
        *(*CHANGES, "TRUNCATE events"),
        *(*SUBTREE_CHANGES, "TRUNCATE subtrees", "DROP TABLE subtrees"),
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TRIGGER events_no_change ON events",
        "DROP TABLE events",
        "SET session_replication_role = replica",
        *IDENTITY_CHANGES,
        *PARTITION_CHANGES,
        "DROP TABLE events_0",
        "ALTER TABLE events DETACH PARTITION events_0",
        "UPDATE texts SET text = 'x'",
        "UPDATE access_record SET actor = 'x'",
        "DELETE FROM access_record",
        "DELETE FROM log_heads",
        "UPDATE instance SET name = 'x'",
        "UPDATE checkpoints SET note = 'x'",
        "DELETE FROM checkpoints",
        "UPDATE continued SET size = 0",
        "CREATE TABLE mine (a bigint)",
    ],
)
async def test_the_role_that_serves_may_not_change_the_log(served_url: str, text: str) -> None:
    connection = await asyncpg.connect(served_url)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(text)
    await connection.close()


async def test_the_role_that_serves_can_give_no_table_the_trigger_of_identities(
    served_url: str,
) -> None:
    connection = await asyncpg.connect(served_url)
    await connection.execute("CREATE TEMP TABLE mine (LIKE public.events)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(
            "CREATE TRIGGER mine AFTER INSERT ON mine REFERENCING NEW TABLE AS added "
            "FOR EACH STATEMENT EXECUTE FUNCTION append_identities()"
        )
    await connection.close()


async def test_the_role_that_serves_can_record_publish_and_read(
    served_url: str, tmp_path: Path
) -> None:
    async with opened(served_url) as db:
        log_id = await filled(db)
        publisher = new_publisher(db, tmp_path / "checkpoints")
        await publisher.following.catch_up()
        assert await publisher.served.latest(log_id) is not None
        assert (await log.head(db, log_id)).size == 3
        devices = (
            await device_pages.page(
                db, (log_id, "acme"), device_current.Filter(), after="", limit=9
            )
        ).devices
        assert [found.state.version for found in devices] == ["1.0.0", None]
        async with db.transaction() as tx:
            assert len((await tx.run(log.erase_text(log_id, 2)))[0]) == 1
        await Reads(db).add(Read("acme", 0, "r1", "user/u_1", "/events", "{}"))
        assert await reads.count(db, reads.ReadFilter("acme")) == 1


async def test_the_documented_commands_remove_rows_ahead_of_the_head(
    postgres: PostgresServer, postgres_url: str
) -> None:
    operations = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text()
    [way] = re.findall(r"```sql\n(BEGIN;\nALTER TABLE events .*?)```", operations, re.DOTALL)
    async with opened(postgres_url) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, "d1")
    async with owned(postgres_url) as run:
        await run(_of_strangers(1, 2, 7))
        for trigger in checks._POSTGRES_EXPECTED:
            await run(f"ALTER TABLE {trigger.split('_')[0]} ENABLE ALWAYS TRIGGER {trigger}")
        await run(way)
    async with opened(postgres_url) as db:
        [receipt] = await receipts(Recorder(db), log_id, report(report_id="a"))
        assert receipt.position == 1
        assert await checks.postgres_triggers(db) == []

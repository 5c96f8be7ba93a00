"""A migration makes the whole schema or nothing, and a database belongs to one instance."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import SQLAlchemyError

from firmtrail.access.reads import Read, Reads
from firmtrail.audit import access_record
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.database.database import NoSuchTable
from firmtrail.eventstore import log, merkle, tree
from firmtrail.recording.recorder import Recorder
from firmtrail.schema.migrate import WrongInstance, migrate
from firmtrail.schema.migrations import access, is_usable, statements
from tests.contract.appended import append
from tests.contract.migrations import run_outside
from tests.contract.subtrees import subtrees_of
from tests.databases import INSTANCE, migrating, new_log, opened, read
from tests.fleet import receipts, register, report
from tests.postgres_server import PostgresServer
from tests.reference import Reference

_POSITIONS = "SELECT position FROM events WHERE log_id = $1"


@pytest.fixture
def empty_url(back_end: PostgresServer | None, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table."""
    if back_end is None:
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    with back_end.fresh_database("template1") as url:
        yield url


async def is_migrated(url: str) -> bool:
    async with opened(url) as db:
        return await is_usable(db)


async def test_an_empty_database_is_not_usable_and_a_migrated_one_is(empty_url: str) -> None:
    assert not await is_migrated(empty_url)
    await migrate(migrating(empty_url), INSTANCE)
    assert await is_migrated(empty_url)


async def test_migrating_again_changes_nothing(empty_url: str) -> None:
    await migrate(migrating(empty_url), INSTANCE)
    async with opened(empty_url) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, "d1")
    await migrate(migrating(empty_url), INSTANCE)
    async with opened(empty_url) as db:
        assert (await log.head(db, log_id)).size == 1
        assert [tuple(row) for row in await read(db, "SELECT name FROM instance")] == [(INSTANCE,)]
        assert (await receipts(Recorder(db), log_id, report()))[0].position == 1


async def test_a_database_keeps_the_name_of_its_instance(empty_url: str) -> None:
    await migrate(migrating(empty_url), "north")
    with pytest.raises(WrongInstance):
        await migrate(migrating(empty_url), "south")
    await migrate(migrating(empty_url), "north")


async def test_a_migration_that_fails_leaves_nothing(empty_url: str) -> None:
    """A foreign table has the name of one that the first migration creates after others."""
    await run_outside(empty_url, "CREATE TABLE idempotency_keys (stranger bigint)")
    with pytest.raises(SQLAlchemyError):
        await migrate(migrating(empty_url), INSTANCE)
    async with opened(empty_url) as db:
        with pytest.raises(NoSuchTable):
            await read(db, "SELECT log_id FROM log_heads")
    await run_outside(empty_url, "DROP TABLE idempotency_keys")
    await migrate(migrating(empty_url), INSTANCE)
    assert await is_migrated(empty_url)


def made_by_the_first_migration(url: str) -> list[str]:
    back_end = "sqlite" if url.startswith("sqlite") else "postgresql"
    return [
        *(
            text
            for name in ("0001_log", "0001_access", f"0001_own.{back_end}")
            for text in statements(name, back_end)
        ),
        "CREATE TABLE alembic_version (version_num varchar(32) NOT NULL PRIMARY KEY)",
        "INSERT INTO alembic_version (version_num) VALUES ('0001')",
        f"INSERT INTO instance (name) VALUES ('{INSTANCE}')",
    ]


def a_log(log_id: int, size: int) -> list[str]:
    """Returns statements that fill a log of the first migration."""
    leaves = (merkle.leaf_hash(entry_of(log_id, n)) for n in range(size))
    frontier = merkle.to_text(merkle.extend((), 0, leaves).frontier)
    head = f"{log_id}, 'p{log_id}', 1, {size}, '{frontier}', 1, 0, 0, 0"
    entries = (
        "WITH RECURSIVE counted(n) AS "
        f"(SELECT 0 UNION ALL SELECT n + 1 FROM counted WHERE n < {size - 1}) "
        "INSERT INTO events (log_id, position, stream, event_id, recorded_at_ms, entry) "
        f"SELECT {log_id}, n, 'device/d1', 's.' || n, 1, '{log_id} ü ' || n FROM counted"
    )
    return [f"INSERT INTO log_heads VALUES ({head})", *([entries] if size else [])]


def entry_of(log_id: int, n: int) -> bytes:
    return f"{log_id} ü {n}".encode()


async def test_logs_that_are_older_than_subtrees_get_their_subtrees(empty_url: str) -> None:
    sizes = {1: 66_000, 2: 0, 3: 511, 7: 512}
    logs = [text for log_id, size in sizes.items() for text in a_log(log_id, size)]
    await run_outside(empty_url, *made_by_the_first_migration(empty_url), *logs)
    assert not await is_migrated(empty_url)
    await migrate(migrating(empty_url), INSTANCE)
    async with opened(empty_url) as db:
        for log_id, size in sizes.items():
            tree_of = Reference([entry_of(log_id, n) for n in range(size)])
            assert len(await read(db, _POSITIONS, log_id)) == size
            assert await subtrees_of(db, log_id) == [
                (level, n, tree_of.mth(n * 256**level, (n + 1) * 256**level).hex())
                for level in (1, 2)
                for n in range(size // 256**level)
            ]
            assert await tree.root(db, log_id, size) == tree_of.root(size)


async def test_a_migrated_log_takes_appends_at_its_end(empty_url: str) -> None:
    await run_outside(empty_url, *made_by_the_first_migration(empty_url), *a_log(1, 700))
    await migrate(migrating(empty_url), INSTANCE)
    entries = [entry_of(1, n).decode() for n in range(1_100)]
    async with opened(empty_url) as db:
        await append(db, 1, *entries[700:])
        tree_of = Reference([entry.encode() for entry in entries])
        assert await tree.root(db, 1, 1_100) == tree_of.root(1_100)
        assert len(await subtrees_of(db, 1)) == 4


def made_by_the_third_migration(url: str) -> list[str]:
    back_end = "sqlite" if url.startswith("sqlite") else "postgresql"
    names = ["subtrees", "checkpoints", "rebuilds", "access_record"]
    names = [f"0002_{name}" for name in names] + [
        f"0002_{name}.{back_end}" for name in ("subtrees", "checkpoints")
    ]
    names += ["0003_releases", "0003_rollouts"]
    names += ["0003_own.postgresql"] if back_end == "postgresql" else []
    return [
        *made_by_the_first_migration(url),
        *(text for name in names for text in statements(name, back_end)),
        "UPDATE alembic_version SET version_num = '0003'",
    ]


def issued(position: int, token_id: str, actor: str, data: str = "") -> str:
    entry = (
        f'{{"specversion":"1.0","id":"s.{token_id}","source":"/projects/acme/token/{token_id}",'
        f'"type":"firmtrail.TokenIssued.v1","subject":"token/{token_id}",'
        f'"time":"2026-01-01T00:00:00.000Z","actor":"{actor}",'
        f'"data":{{"token_id":"{token_id}","holder":"u_1","role":"viewer"{data}}}}}'
    )
    return (
        "INSERT INTO events (log_id, position, stream, event_id, recorded_at_ms, entry) "
        f"VALUES (1, {position}, 'token/{token_id}', 's.{token_id}', 1, '{entry}')"
    )


async def test_a_token_that_a_token_issued_gets_its_issuers_limits(empty_url: str) -> None:
    made = [  # id, actor, expires, revoked
        ("t_short", "user/u_1", 50, None),
        ("t_dead", "user/u_1", None, 7),
        ("t_of_short", "token/t_short", None, None),
        ("t_of_dead", "token/t_dead", 90, None),
        ("t_of_of_dead", "gateway/t_of_dead", None, None),
        ("t_sooner", "token/t_short", 20, None),
        ("t_unknown", "token/t_x", None, None),
    ]
    rows = [
        "INSERT INTO tokens (digest, token_id, actor_id, project, role, name, created_at_ms, "
        f"expires_at_ms, revoked_at_ms) VALUES ('{name}', '{name}', 'u_1', 'acme', 'viewer', '', "
        f"{n}, {expires or 'NULL'}, {revoked or 'NULL'})"
        for n, (name, _, expires, revoked) in enumerate(made)
    ]
    entries = [issued(n, name, actor) for n, (name, actor, *_) in enumerate(made)]
    head = "INSERT INTO log_heads VALUES (1, 'acme', 1, 7, '', 1, 0, 0, 0)"
    await run_outside(empty_url, *made_by_the_third_migration(empty_url), head, *entries, *rows)
    await migrate(migrating(empty_url), INSTANCE)
    text = (
        "SELECT token_id, issued_by, expires_at_ms, revoked_at_ms FROM tokens "
        "ORDER BY created_at_ms LIMIT 9"
    )
    async with opened(empty_url) as db:
        assert [tuple(row) for row in await read(db, text)] == [
            ("t_short", None, 50, None),
            ("t_dead", None, None, 7),
            ("t_of_short", "t_short", 50, None),
            ("t_of_dead", "t_dead", 90, 7),
            ("t_of_of_dead", "t_of_dead", 90, 7),
            ("t_sooner", "t_short", 20, None),
            ("t_unknown", None, None, None),
        ]


async def test_old_rows_of_the_access_record_become_one_chain(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "PAGE_ROWS", 3)
    rows = [
        "INSERT INTO access_record (project, at_ms, request_id, actor, path, asked) "
        f"VALUES ('p{n % 2}', {n // 4}, 'r{(7 * n) % 11:02}', 'user/u_{n % 3}', '/events', '{{}}')"
        for n in range(11)
    ]
    await run_outside(empty_url, *made_by_the_third_migration(empty_url), *rows, *a_log(1, 0))
    await migrate(migrating(empty_url), INSTANCE)
    async with opened(empty_url) as db:
        for project in ("p0", "p1"):
            logs, findings = [AuditedLog(db, 1, project, 1, "x")], Findings()
            await access_record.verify(project, project, logs, findings)
            assert findings.kept == []
            await Reads(db).add(Read(project, 9, "new", "user/u_1", "/events", "{}"))
            await access_record.verify(project, project, logs, findings)
            assert findings.kept == []
        sizes = await read(db, "SELECT size FROM access_heads ORDER BY project LIMIT 9")
        assert [size for [size] in sizes] == [7, 6]

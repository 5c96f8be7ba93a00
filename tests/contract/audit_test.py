"""An audit finds every change of a database's logs, and finds nothing in an unchanged database."""

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest

from firmtrail import config
from firmtrail.audit import identities
from firmtrail.audit.finding import Findings
from firmtrail.audit.logs import AuditedLog
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import AuditScope
from firmtrail.database.database import Database
from tests import databases
from tests.databases import new_log, opened, read, write
from tests.filled import PROJECTS, filled
from tests.mutations import KINDS, TABLES, Row, Tables, mutate
from tests.postgres_server import PostgresServer


def audited(url: str, prefix: Path) -> config.DatabaseUrl:
    """Returns the database as commands get it, with its key and checkpoints."""
    files = Path(f"{prefix}.key"), Path(f"{prefix}.checkpoints")
    return config.signed(config.database(url), *files)


async def found(database: config.DatabaseUrl) -> Findings:
    """Returns the findings of both commands, for all projects."""
    findings = Findings()
    for project in PROJECTS:
        wanted = AuditScope(database, project, None)
        await audit_database.verify(wanted, None, None, findings)
        await audit_database.replay(wanted, findings)
    return findings


async def test_a_database_with_everything_in_it_passes(
    db: Database, database_url: str, files: Path
) -> None:
    assert len(await read(db, "SELECT log_id FROM log_heads")) == 3
    assert [name for name in TABLES if not await read(db, f"SELECT * FROM {name} LIMIT 1")] == []
    findings = await found(audited(database_url, files))
    assert findings.kept == []


MUTATIONS = int(os.environ.get("FIRMTRAIL_TEST_MUTATIONS", "5"))
SEED = int(os.environ.get("FIRMTRAIL_TEST_SEED", "1"))
APPEND_ONLY = ("events", "identities", "subtrees", "checkpoints")

_copies = count(1)

type Copy = AbstractAsyncContextManager[Mutated]
type Mutation = Callable[[Tables, Random], Awaitable[str]]


class Mutated(NamedTuple):
    """Holds a copy of a filled database that the test may change."""

    url: str
    tables: Tables


@contextlib.asynccontextmanager
async def sqlite_copy(path: Path) -> AsyncIterator[Mutated]:
    for left in path.parent.glob("copy.db*"):
        left.unlink()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        for [name] in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            connection.execute(f"DROP TRIGGER {name}")

        async def rows(table: str) -> list[Row]:
            found = connection.execute(f"SELECT * FROM {table}")
            return sorted((dict(row) for row in found), key=repr)

        async def run(text: str, args: Sequence[int | str | None]) -> None:
            connection.execute(text, args)

        yield Mutated(
            f"sqlite:///{copy}", Tables(rows, run, takes_anything=True, has_identities=False)
        )


@contextlib.asynccontextmanager
async def postgres_copy(server: PostgresServer, template: str) -> AsyncIterator[Mutated]:
    url = server.create_database(f"{template}_{next(_copies)}", template)
    connection = await asyncpg.connect(url)
    for table in APPEND_ONLY:
        await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")

    async def rows(table: str) -> list[Row]:
        found = await connection.fetch(f"SELECT * FROM {table}")
        return sorted((dict(row) for row in found), key=repr)

    async def run(text: str, args: Sequence[int | str | None]) -> None:
        numbers = count(1)
        await connection.execute(re.sub(r"\?", lambda _: f"${next(numbers)}", text), *args)

    yield Mutated(url, Tables(rows, run, takes_anything=False, has_identities=True))
    await connection.close()


async def mutated(copy: Mutated, random: Random, kind: Mutation) -> str:
    """Changes something; tries again if the database's own keys or types refuse the change."""
    refusals = sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError, asyncpg.DataError
    while True:
        with contextlib.suppress(*refusals):
            return await kind(copy.tables, random)


async def unfound(
    copies: Callable[[], Copy], prefix: Path, mutations: Sequence[Mutation]
) -> list[str]:
    """Returns the mutations that no command finds, or that a finding gives no place for."""
    missed = []
    for number, kind in enumerate(mutations):
        async with copies() as copy:
            mutation = await mutated(copy, Random(SEED * 1000 + number), kind)
        findings = await found(audited(copy.url, prefix))
        if not findings.count or not all(each.where for each in findings.kept):
            missed.append(mutation)
    return missed


async def test_every_mutation_of_a_file_is_found_and_named(sqlite_url: str, files: Path) -> None:
    assert len(KINDS) == 7
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    mutations = [mutate] * MUTATIONS + KINDS
    assert await unfound(lambda: sqlite_copy(path), files, mutations) == []


async def test_every_mutation_on_postgres_is_found_and_named(
    postgres: PostgresServer, postgres_url: str, files: Path
) -> None:
    template = urlsplit(postgres_url).path.removeprefix("/")
    missed = await unfound(
        lambda: postgres_copy(postgres, template), files, [mutate] * (MUTATIONS // 2)
    )
    assert missed == []


async def test_a_restored_older_state_is_found_by_the_published_checkpoints(
    sqlite_url: str, tmp_path: Path
) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    async with opened(sqlite_url) as db:
        log_id = await new_log(db, PROJECTS[0])
        await write(db, "INSERT INTO projects VALUES ($1, $2, 0)", PROJECTS[0], log_id)
    shutil.copy(path, tmp_path / "older.db")
    database = audited(f"sqlite:///{tmp_path}/older.db", tmp_path / "files")
    wanted, findings = AuditScope(database, PROJECTS[0], None), Findings()
    await audit_database.verify(wanted, None, None, findings)
    assert findings.kept == []
    _, newer = databases.sqlite_filled(filled)
    newer.write(tmp_path / "files")
    await audit_database.verify(wanted, None, None, findings)
    assert {found.log for found in findings.kept} == {"firmtrail/acme/1", "firmtrail/acme/2"}


async def test_without_a_key_everything_except_signatures_is_checked(
    db: Database, database_url: str, files: Path
) -> None:
    database = config.database(database_url)
    assert (await found(database)).kept == []
    await write(db, "UPDATE log_heads SET frontier = 'x' WHERE number = 2")
    assert [(each.log, each.where) for each in (await found(database)).kept] == [
        ("firmtrail/acme/2", "log_heads (frontier)")
    ]


async def test_an_identity_that_was_recorded_twice_is_found_on_any_page(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses a table without its keys, as a manipulated database may have it."""
    monkeypatch.setattr(identities, "PAGE_IDENTITIES", 3)
    path = sqlite_url.removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as changed, changed:
        changed.execute("PRAGMA legacy_alter_table = ON")  # views keep the name that they have
        changed.execute("ALTER TABLE events RENAME TO whole")
        changed.execute("CREATE TABLE events AS SELECT * FROM whole")
        for position, name in enumerate("aabcddefgghijk"):
            row = (1, position, "device/d1", f"r.{name}", 0, "")
            changed.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)
    async with opened(sqlite_url) as db:
        findings = Findings()
        log = AuditedLog(db, 1, "acme", 1, "firmtrail/acme/1")
        await identities.check(log, range(0), identities.new_sum(), findings)
    assert [each.where for each in findings.kept] == ["position 1", "position 5", "position 9"]

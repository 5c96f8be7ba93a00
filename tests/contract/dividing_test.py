"""A PostgreSQL of an older version gets identities and partitions while servers append."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from firmtrail.eventstore import log
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks, migrations, partitions
from firmtrail.schema.dividing import Division
from firmtrail.schema.migrate import Roles, migrate
from firmtrail.schema.migrations import identities
from firmtrail.schema.partitions import Partition
from tests.contract.divided import SMALL, checked, faults, shape
from tests.contract.migrations import run_outside
from tests.contract.undivided import before_identities
from tests.databases import (
    INSTANCE,
    create_role,
    migrating,
    new_log,
    opened,
    postgres_copy,
    read,
    write,
)
from tests.filled import Files, filled
from tests.fleet import receipts, register, report
from tests.postgres_server import PostgresServer

DIVIDED = Division(is_wanted=True, positions=200)
SERVICE, AUDITOR = "firmtrail_divided_service", "firmtrail_divided_auditor"


async def test_an_older_database_gets_its_identities_while_the_version_before_serves(
    empty_postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run is ended after a batch. Meanwhile the older version appends."""
    monkeypatch.setattr(identities, "BATCH_EVENTS", 100)
    async with before_identities(empty_postgres), opened(empty_postgres) as db:
        (await filled(db)).write(tmp_path / "files")
        [[log_id]] = await read(db, "SELECT log_id FROM projects WHERE project = 'acme'")
    shown: list[int] = []

    def end_after_one(_name: str, done: int) -> None:
        shown.append(done)
        if len(shown) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await migrate(migrating(empty_postgres), INSTANCE, progress=end_after_one)
    async with opened(empty_postgres) as db:
        await register(Recorder(db), log_id, "added-meanwhile")
    await migrate(migrating(empty_postgres), INSTANCE, progress=end_after_one)
    async with opened(empty_postgres) as db:
        [[events, named]] = await read(
            db, "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM identities)"
        )
        assert (events, events - 1) == (named, shown[0] + shown[-1])
        assert (await migrations.schema(db)).version == migrations.HEAD
        assert await partitions.partitions(db) == [Partition("events", None, None)]
        assert await read(db, "SELECT compatible_from FROM instance") == [("0005",)]
    assert await faults(empty_postgres, tmp_path / "files") == []


async def made_before(url: str) -> Files:
    """Makes a database of the version before, with roles, and migrates it without dividing it."""
    async with before_identities(url), opened(url) as db:
        files = await filled(db)
    for role in (SERVICE, AUDITOR):
        await create_role(url, role)
    await migrate(migrating(url), INSTANCE, Roles(SERVICE, AUDITOR))
    return files


@pytest.fixture
def undivided(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    with postgres_copy(postgres, made_before) as (url, files):
        files.write(tmp_path / "files")
        yield url


async def test_an_older_database_is_divided_when_that_is_asked(
    undivided: str, tmp_path: Path
) -> None:
    assert await shape(undivided) == [(None, None)]
    await migrate(migrating(undivided), INSTANCE, division=DIVIDED)
    async with opened(undivided) as db:
        largest = (await read(db, "SELECT max(size) FROM log_heads"))[0][0]
        assert largest > 200
        assert await shape(undivided) == [(None, 600), (600, None)]
        assert await read(db, "SELECT compatible_from FROM instance") == [("0015",)]
    assert await faults(undivided, tmp_path / "files") == []
    await migrate(migrating(undivided), INSTANCE)
    async with opened(undivided) as db:
        assert await read(db, "SELECT compatible_from FROM instance") == [("0015",)]


async def test_the_roles_keep_their_rights_when_a_database_is_divided(
    undivided: str, tmp_path: Path
) -> None:
    await migrate(migrating(undivided), INSTANCE, division=DIVIDED)
    async with opened(undivided.replace("postgres@", f"{SERVICE}@")) as db:
        [[log_id]] = await read(db, "SELECT log_id FROM projects WHERE project = 'acme'")
        assert await checks.postgres_privileges(db) == []
        await register(Recorder(db), log_id, "new")
        with pytest.raises(Exception, match="permission denied"):
            await write(db, "INSERT INTO events_0 SELECT * FROM events LIMIT 1")
        assert len(await read(db, "SELECT entry FROM events_600 UNION SELECT entry FROM events_0"))
    auditor = undivided.replace("postgres@", f"{AUDITOR}@")
    assert await faults(auditor, tmp_path / "files") == []


async def test_a_division_that_was_ended_in_between_is_reported_and_continued(
    undivided: str,
) -> None:
    bound = "ALTER TABLE events ADD CONSTRAINT events_bound CHECK (position < 400) NOT VALID"
    await run_outside(undivided, bound)
    async with opened(undivided) as db:
        assert await checks.postgres_unfinished(db) == ["events"]
    verdict, text = await checked(undivided)
    assert (verdict, "did not finish dividing events" in text) == ("warn", True)
    await migrate(migrating(undivided), INSTANCE, division=DIVIDED)
    async with opened(undivided) as db:
        assert await checks.postgres_unfinished(db) == []
    assert await shape(undivided) == [(None, 600), (600, None)]


async def test_migrations_that_run_at_the_same_time_divide_a_table_once(
    undivided: str, tmp_path: Path
) -> None:
    await asyncio.gather(
        *(migrate(migrating(undivided), INSTANCE, division=DIVIDED) for _ in range(3))
    )
    assert await shape(undivided) == [(None, 600), (600, None)]
    async with opened(undivided) as db:
        assert await checks.postgres_unfinished(db) == []
    assert await faults(undivided, tmp_path / "files") == []


async def test_migrations_that_run_at_the_same_time_make_one_new_database(
    empty_postgres: str,
) -> None:
    await asyncio.gather(
        *(migrate(migrating(empty_postgres), INSTANCE, division=SMALL) for _ in range(2))
    )
    assert await shape(empty_postgres) == [(None, 20), (20, None)]


async def test_appends_continue_while_a_table_is_divided_and_partitions_are_added(
    empty_postgres: str, tmp_path: Path
) -> None:
    """A statement that was prepared for the old table is planned again for the new one."""
    async with before_identities(empty_postgres), opened(empty_postgres) as db:
        log_id = await new_log(db)
    await migrate(migrating(empty_postgres), INSTANCE)
    ended = asyncio.Event()
    async with opened(empty_postgres) as db:
        await register(Recorder(db), log_id, "d1")

        async def append(first: str) -> int:
            recorder, sent = Recorder(db), 0
            while not ended.is_set() or sent < 50:
                [got] = await receipts(recorder, log_id, report(report_id=f"{first}{sent}"))
                assert not got.duplicate
                sent += 1
            return sent

        appending = [asyncio.create_task(append(name)) for name in "ab"]
        division = Division(is_wanted=True, positions=2_000)  # much more than a migration waits for
        for n in range(2):
            await migrate(migrating(empty_postgres), INSTANCE, division=division)
            assert len(await shape(empty_postgres)) == 2 + n
            await register(Recorder(db), log_id, *(f"d{n}_{m}" for m in range(1_500)))
        ended.set()
        sent = sum(await asyncio.gather(*appending))
        head = await log.head(db, log_id)
        assert head.size == 1 + 2 * 1_500 + sent
        [[named]] = await read(db, "SELECT count(*) FROM identities")
        assert named == head.size

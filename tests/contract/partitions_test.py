"""PostgreSQL keeps events in partitions by ranges of positions, and identities exact over them."""

import asyncio
import subprocess
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from firmtrail.database.database import Database, Statement
from firmtrail.eventstore import log, replay, short_streams
from firmtrail.http.fleet_metrics import FleetTotals
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks, migrations, partitions
from firmtrail.schema.dividing import Division
from firmtrail.schema.migrate import Roles, WrongInstance, migrate
from tests.contract.divided import SMALL, checked, faults, shape
from tests.contract.migrations import run_outside
from tests.contract.undivided import before_identities
from tests.databases import INSTANCE, migrating, new_log, opened, read
from tests.end_to_end.command import in_process
from tests.fleet import receipts, register, report
from tests.patience import PATIENCE_S
from tests.postgres_server import ENVIRONMENT, PostgresServer

DIVIDED = Division(is_wanted=True, positions=200)
SERVICE, AUDITOR = "firmtrail_divided_service", "firmtrail_divided_auditor"


async def rows_of(db: Database) -> list[tuple[str, int]]:
    """Returns how many events each partition has."""
    counted = "SELECT CAST(CAST(tableoid AS regclass) AS text) AS part, count(*) FROM events"
    return [(name, count) for name, count in await read(db, f"{counted} GROUP BY 1 ORDER BY 1")]


async def test_a_new_database_has_partitions_and_gets_more_before_a_log_needs_them(
    empty_postgres: str,
) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    assert await shape(empty_postgres) == [(None, 20), (20, None)]
    async with opened(empty_postgres) as db:
        log_id, other = await new_log(db), await new_log(db, "other")
        await register(Recorder(db), log_id, *(f"d{n}" for n in range(10)))
        await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
        assert await shape(empty_postgres) == [(None, 20), (20, None)]
        await register(Recorder(db), log_id, *(f"e{n}" for n in range(5)))
        await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
        assert await shape(empty_postgres) == [(None, 20), (20, 40), (40, None)]
        await register(Recorder(db), log_id, *(f"f{n}" for n in range(30)))
        await register(Recorder(db), other, *(f"f{n}" for n in range(3)))
        assert await rows_of(db) == [("events_0", 23), ("events_20", 20), ("events_40", 5)]
        assert await partitions.positions_left(db) == -5
        await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
        assert await shape(empty_postgres) == [(None, 20), (20, 40), (40, 60), (60, None)]
        assert await checks.postgres_triggers(db) == []
        assert await checks.postgres_unfinished(db) == []


@pytest.mark.parametrize("is_other_instance", [True, False], ids=["instance", "role"])
async def test_a_migration_that_is_refused_leaves_the_partitions_as_they_are(
    empty_postgres: str, *, is_other_instance: bool
) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    async with opened(empty_postgres) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, *(f"d{n}" for n in range(15)))
        name = "another" if is_other_instance else INSTANCE
        with pytest.raises((WrongInstance, SQLAlchemyError)):
            await migrate(
                migrating(empty_postgres), name, Roles("firmtrail_nobody", None), division=SMALL
            )
        assert await checks.postgres_unfinished(db) == []
    assert await shape(empty_postgres) == [(None, 20), (20, None)]


def test_migrate_says_how_events_are_divided(empty_postgres: str) -> None:
    done = in_process(empty_postgres, "migrate", "--positions", "1000")
    assert "Its events are in 2 partitions; the last begins at 1000." in done.said


async def streams_of(db: Database, log_id: int) -> list[list[int]]:
    """Returns the positions that each way to read a stream finds."""
    one = replay.read_stream(db, log_id, "device/d1", start=0, stop=1_000)
    many = replay.read_stream(db, log_id, "device/", start=15, stop=1_000)
    newest = replay.newest_of_stream(db, log_id, "device/d1", start=0, stop=1_000)
    return [
        [position async for page in one for position, *_ in page],
        [position async for page in many for position, *_ in page],
        [position async for part in newest for position, *_ in part.entries],
        [position for position, *_ in await short_streams.read(db, log_id, "device/d1")],
    ]


async def shown(db: Database) -> list[bytes]:
    """Returns the lines of the metric."""
    lines = (await FleetTotals(db).text()).splitlines()
    return [each for each in lines if each.startswith(b"firmtrail_partition")]


async def test_doctor_and_a_metric_say_when_a_partition_is_due(empty_postgres: str) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    async with opened(empty_postgres) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, *(f"d{n}" for n in range(14)))
        assert await shown(db) == [b"firmtrail_partition_positions_left 6.0"]
        assert (await checked(empty_postgres))[0] == "ok"
        await register(Recorder(db), log_id, "next")
        verdict, text = await checked(empty_postgres)
        assert (verdict, "5 positions left" in text) == ("warn", True)
        assert "run `firmtrail migrate`" in text
        await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
        assert (await checked(empty_postgres))[0] == "ok"


async def test_doctor_says_that_an_older_database_can_be_divided(empty_postgres: str) -> None:
    async with before_identities(empty_postgres):
        pass
    await migrate(migrating(empty_postgres), INSTANCE)
    verdict, text = await checked(empty_postgres)
    assert (verdict, "firmtrail migrate --partition" in text) == ("info", True)
    async with opened(empty_postgres) as db:
        assert await shown(db) == []


async def test_streams_are_read_over_all_partitions(empty_postgres: str) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    async with opened(empty_postgres) as db:
        log_id, recorder = await new_log(db), Recorder(db)
        await register(recorder, log_id, "d1")
        for n in range(3):
            await register(recorder, log_id, *(f"e{n}_{m}" for m in range(9)))
            await receipts(recorder, log_id, report(report_id=f"r{n}"))
        own = [0, 10, 20, 30]
        assert await streams_of(db, log_id) == [own, [*range(15, 31)], own[::-1], own]


_FETCHED = """\
SELECT CAST(coalesce(sum(coalesce(idx_tup_fetch, 0) + seq_tup_read), 0) AS bigint)
FROM pg_stat_xact_user_tables
WHERE relname LIKE 'events%' OR relname = 'identities'"""


async def fetched(db: Database, log_id: int, *event_ids: str) -> int:
    """Returns how many rows are read to look these identities up, in one transaction."""
    wanted = log.find(log_id, [("device/d1", each) for each in event_ids])
    async with db.snapshot() as snapshot:
        [[before]] = await snapshot.read(Statement(_FETCHED))
        await snapshot.read(wanted)
        [[after]] = await snapshot.read(Statement(_FETCHED))
    return int(after - before)


async def test_plans_made_while_a_partition_was_empty_are_good_when_it_has_rows(
    empty_postgres: str,
) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    async with opened(empty_postgres) as db:
        log_id, recorder = await new_log(db), Recorder(db)
        for _ in range(6):  # six times, after which Postgres may use a generic plan
            await fetched(db, log_id, "r.5")
        await register(recorder, log_id, "d1", *(f"e{n}" for n in range(400)))
        await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
        for _ in range(6):
            await fetched(db, log_id, "r.5")
        sent = [report(report_id=str(n)) for n in range(400)]
        await recorder.report(log_id, sent)
        assert [count for _, count in await rows_of(db)] == [20, 400, 381]
        assert await fetched(db, log_id, "r.5", "r.300") <= 4


async def test_a_trigger_that_is_missing_on_one_partition_is_reported(empty_postgres: str) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    await run_outside(
        empty_postgres,
        "DROP TRIGGER events_append ON events_20",
        "ALTER TABLE events_0 DISABLE TRIGGER events_no_change",
        "ALTER TABLE events ENABLE TRIGGER events_identify",
    )
    async with opened(empty_postgres) as db:
        assert sorted(await checks.postgres_triggers(db)) == [
            "events_append of events_20 is missing",
            "events_identify was changed",
            "events_no_change of events_0 was changed",
        ]


async def test_a_trigger_that_a_later_revision_replaces_is_replaced_on_all_partitions(
    empty_postgres: str,
) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    _, *replacing = migrations.statements("0016_pruned.postgresql", "postgresql")
    assert [text.split()[0] for text in replacing] == ["DROP", "CREATE", "ALTER"]
    await run_outside(empty_postgres, *replacing)
    async with opened(empty_postgres) as db:
        assert await checks.postgres_triggers(db) == []


def run(server: PostgresServer, program: str, *arguments: str) -> str:
    done = subprocess.run(
        [server.programs / program, *arguments], env=ENVIRONMENT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


async def test_a_database_is_dumped_and_restored_in_pieces(
    postgres: PostgresServer, hundreds: str, tmp_path: Path
) -> None:
    async with opened(hundreds) as db:
        counts = dict(await rows_of(db))
        assert len(counts) == 2
    rest, part = str(tmp_path / "rest.dump"), str(tmp_path / "part.dump")
    run(
        postgres,
        *("pg_dump", "--format=custom", f"--file={rest}", "--exclude-table-data=events_0"),
        f"--dbname={hundreds}",
    )
    run(
        postgres,
        *("pg_dump", "--format=custom", f"--file={part}", "--data-only", "--table=events_0"),
        f"--dbname={hundreds}",
    )
    listed = run(postgres, "pg_restore", "--list", part)
    assert ("TABLE DATA public events_0" in listed, "events_100" in listed) == (True, False)
    with postgres.fresh_database("template1") as url:
        steps = (rest, "pre-data"), (rest, "data"), (part, "data"), (rest, "post-data")
        for dump, section in steps:
            run(postgres, "pg_restore", f"--section={section}", f"--dbname={url}", dump)
        async with opened(url) as db:
            assert dict(await rows_of(db)) == counts
        assert await faults(url, tmp_path / "files") == []


async def test_one_partition_is_vacuumed_alone(empty_postgres: str) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    async with opened(empty_postgres) as db:
        log_id = await new_log(db)
        await register(Recorder(db), log_id, *(f"d{n}" for n in range(50)))
    connection = await asyncpg.connect(empty_postgres)
    frozen = "SELECT relallvisible > 0 FROM pg_class WHERE relname = $1"
    async with asyncio.timeout(PATIENCE_S):
        while not await connection.fetchval(frozen, "events_20"):  # autovacuum may be in the way
            await connection.execute("VACUUM (FREEZE) events_20")
    assert not await connection.fetchval(frozen, "events_0")
    await connection.close()

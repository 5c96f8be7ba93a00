"""Old rows of the access record go up to a seal, and an audit still finds fraud."""

from itertools import count

import pytest

from firmtrail.access import reads as access_reads
from firmtrail.access.reads import Read, Reads
from firmtrail.audit import access_record, logs
from firmtrail.audit.finding import Findings
from firmtrail.commands.access_record import Trimmed, seal, trim
from firmtrail.database.database import Database, Statement
from firmtrail.events.log import AccessRecordTrimmed
from firmtrail.recording.commit import SYSTEM, Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules.device import Refused
from firmtrail.schema.migrate import Roles, migrate
from tests.databases import INSTANCE, migrating, new_log, opened, read, write
from tests.postgres_server import PostgresServer

PROJECT = "acme"
DAY_MS = 86_400_000

FETCHED = Statement("""\
SELECT CAST(coalesce(sum(idx_tup_fetch + seq_tup_read), 0) AS bigint)
FROM pg_stat_xact_user_tables
WHERE relname = 'access_record'""")

_numbers = count()


async def add(db: Database, *days: int) -> None:
    """Records a read on each of these days."""
    reads = Reads(db)
    for day in days:
        await reads.add(Read(PROJECT, day * DAY_MS, f"r{next(_numbers)}", "u", "/events", "{}"))


async def found(db: Database) -> list[str]:
    findings = Findings()
    of_project = await logs.of_project(db, INSTANCE, PROJECT, findings)
    await access_record.verify(f"{INSTANCE}/{PROJECT}", PROJECT, of_project, findings)
    return [f"{each.where}: {each.what}" for each in findings.kept]


async def rows(db: Database) -> list[int]:
    return [seq for [seq] in await read(db, "SELECT seq FROM access_record ORDER BY seq")]


async def new_project(db: Database, log_id: int) -> None:
    text = "INSERT INTO projects (project, log_id, created_at_ms) VALUES ($1, $2, 0)"
    await write(db, text, PROJECT, log_id)


async def filled(db: Database, recorder: Recorder, log_id: int) -> None:
    """Records ten reads, one a day, and seals them after 4, 7 and 9."""
    await new_project(db, log_id)
    for days in ((1, 2, 3, 4), (5, 6, 7), (8, 9)):
        await add(db, *days)
        await recorder.act(log_id, seal())
    await add(db, 10)


async def trimmed(db: Database, recorder: Recorder, log_id: int, day: int) -> Trimmed:
    return await trim(db, recorder, (PROJECT, log_id), day * DAY_MS)


async def test_old_rows_go_up_to_the_last_seal_that_covers_only_them(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    await filled(db, recorder, log_id)
    assert await found(db) == []
    for day, size, deleted in ((4, 0, 0), (5, 4, 4), (7, 4, 0), (9, 7, 3), (99, 9, 2), (99, 9, 0)):
        assert await trimmed(db, recorder, log_id, day) == (size, deleted), day
        assert await rows(db) == list(range(size, 10))
        assert await found(db) == [], day
    await add(db, 11)
    await recorder.act(log_id, seal())
    assert await found(db) == []
    assert await trimmed(db, recorder, log_id, 99) == (11, 2)
    assert await rows(db) == []
    assert await found(db) == []
    await add(db, 12)
    assert await rows(db) == [11]
    assert await found(db) == []


async def test_many_rows_are_found_and_deleted_in_parts(
    db: Database, recorder: Recorder, log_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("SCAN_ROWS", 2), ("DELETE_ROWS_MAX", 2), ("DELETE_BATCHES_MAX", 2)):
        monkeypatch.setattr(access_reads, name, value)
    await filled(db, recorder, log_id)
    for day, size, deleted in ((9, 7, 4), (99, 7, 3), (99, 9, 2), (99, 9, 0)):
        assert await trimmed(db, recorder, log_id, day) == (size, deleted)
        if deleted != 4:
            assert await found(db) == []
    assert await rows(db) == [9]
    await write(db, "DELETE FROM access_record")
    assert await trimmed(db, recorder, log_id, 99) == (9, 0)


async def test_one_newer_row_keeps_all_rows_after_the_seal_before_it(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    """Clocks of servers differ, so times need not follow the chain."""
    await new_project(db, log_id)
    await add(db, 1, 2)
    await recorder.act(log_id, seal())
    await add(db, 9, 3)
    await recorder.act(log_id, seal())
    assert await trimmed(db, recorder, log_id, 5) == (2, 2)
    assert await rows(db) == [2, 3]


async def test_a_trim_that_ended_early_is_found_and_finished(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    await filled(db, recorder, log_id)
    await recorder.act(log_id, says_trimmed(7))
    await write(db, "DELETE FROM access_record WHERE seq < 2")
    [finding] = await found(db)
    assert finding.startswith("access_record (row 2): is there, but firmtrail/acme/1 position 3 ")
    assert await trimmed(db, recorder, log_id, 5) == (7, 5)
    assert await found(db) == []


def says_trimmed(size: int) -> LogCommand[None]:
    async def command(commit: Commit) -> None:
        commit.draft.record(f"access-record/{PROJECT}", AccessRecordTrimmed(size), actor=SYSTEM)

    return command


FRAUDS = {
    "DELETE FROM access_record WHERE seq < 5": "access_record (row 4): is missing",
    "DELETE FROM access_record WHERE seq = 6": "access_record (row 6): is missing",
    "DELETE FROM access_record": "access_record (rows 4 to 6): is missing",
    "UPDATE access_record SET actor = 'x' WHERE seq = 5": "access_record (rows 4 to 6): does not",
    "UPDATE access_record SET seq = 3 WHERE seq = 4": "access_record (row 3): is there, but",
}


@pytest.mark.parametrize("fraud", FRAUDS)
async def test_rows_that_are_not_trimmed_can_not_be_changed_unseen(
    db: Database, recorder: Recorder, log_id: int, fraud: str
) -> None:
    await filled(db, recorder, log_id)
    await trimmed(db, recorder, log_id, 5)
    assert await found(db) == []
    await write(db, fraud)
    assert [each for each in await found(db) if each.startswith(FRAUDS[fraud])], await found(db)


async def test_rows_that_were_deleted_without_an_event_are_missing(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    await filled(db, recorder, log_id)
    await write(db, "DELETE FROM access_record WHERE seq < 4")
    assert await found(db) == ["access_record (rows 0 to 3): is missing"]


async def test_an_event_that_no_seal_covers_explains_nothing(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    await filled(db, recorder, log_id)
    await recorder.act(log_id, says_trimmed(5))
    await write(db, "DELETE FROM access_record WHERE seq < 5")
    findings = await found(db)
    assert "which no seal covers" in findings[0]
    assert "access_record (rows 0 to 4): is missing" in findings


async def test_a_role_that_may_not_delete_is_refused_before_anything_is_recorded(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with opened(postgres_url) as db:
        log_id, recorder = await new_log(db), Recorder(db)
        await filled(db, recorder, log_id)
        await recorder.close()
    role = "firmtrail_trimmer"
    async with opened(postgres_url) as db:
        if not await read(db, "SELECT 1 FROM pg_roles WHERE rolname = $1", role):
            await write(db, f"CREATE ROLE {role} LOGIN")
    await migrate(migrating(postgres_url), INSTANCE, Roles(service=role))
    async with opened(postgres_url.replace("postgres@", f"{role}@")) as db:
        recorder = Recorder(db)
        with pytest.raises(Refused, match="owns the tables"):
            await trimmed(db, recorder, log_id, 99)
        await recorder.close()
        assert await rows(db) == list(range(10))
        assert [size for [size] in await read(db, "SELECT size FROM log_heads")] == [3]


async def test_a_search_for_old_rows_reads_only_their_part_of_the_chain(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the statistics are, and however many newer rows there are."""
    monkeypatch.setattr(access_reads, "SCAN_ROWS", 100)
    text = """INSERT INTO access_record (seq, project, at_ms, request_id, actor, path, asked)
        SELECT n, 'acme', n / 4500, CAST(n AS text), 'u', '/events', '{}'
        FROM generate_series(0, 4999) AS s(n)"""
    async with opened(postgres_url) as db:
        await write(db, text)
        for statistics in ("SELECT 1", "ANALYZE access_record"):
            await write(db, statistics)
            for before_ms, stop in ((1, 300), (0, 300), (9, 300)):
                async with db.transaction() as tx:
                    arguments = ("acme", before_ms, 0, stop)
                    newer = Statement(access_reads._FIRST_NEWER, arguments)
                    [[before]], _, [[after]] = await tx.run(FETCHED, newer, FETCHED)
                assert after - before <= stop
        assert await access_reads.old(db, "acme", 1, 4999) == 4500
        assert await access_reads.old(db, "acme", 2, 4999) == 4999

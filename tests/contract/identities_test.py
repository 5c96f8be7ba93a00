"""Identities stay exact over all partitions, and an audit finds those that are not the log's."""

from pathlib import Path

import pytest

from firmtrail.database.database import AppendRefused, Database, Statement
from firmtrail.eventstore import log
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks
from firmtrail.schema.migrate import migrate
from tests.contract.divided import SMALL, faults
from tests.databases import INSTANCE, migrating, new_log, opened
from tests.fleet import receipts, register, report
from tests.losses import owned


async def test_an_identity_is_unique_over_all_partitions(empty_postgres: str) -> None:
    await migrate(migrating(empty_postgres), INSTANCE, division=SMALL)
    async with opened(empty_postgres) as db:
        log_id, recorder = await new_log(db), Recorder(db)
        await register(recorder, log_id, "d1")
        [first] = await receipts(recorder, log_id, report(report_id="a"))
        await register(recorder, log_id, *(f"e{n}" for n in range(30)))
        [again] = await receipts(recorder, log_id, report(report_id="a"))
        assert (again.position, again.duplicate) == (first.position, True)
        head = await log.head(db, log_id)
        entry = log.NewEntry("device/d1", "r.a", "x")
        appending = log.append(head, [entry], [], head.recorded_at_ms)
        with pytest.raises(AppendRefused, match="identities_pkey"):
            await run_in_transaction(db, log.lock(log_id), *appending)


async def run_in_transaction(db: Database, *statements: Statement) -> None:
    async with db.transaction() as tx:
        await tx.run(*statements)


PLANTED = {  # what is changed -> the statement, and the positions that an audit names
    "a row that no event has": (
        "INSERT INTO identities VALUES (1, 'device/d1', 'r.planted', 7)",
        {"position 7"},
    ),
    "a row after the end of the log": (
        "INSERT INTO identities VALUES (1, 'device/d1', 'r.planted', 1000000)",
        {"position 1000000"},
    ),
    "a missing row": ("DELETE FROM identities WHERE log_id = 1 AND position = 9", {"position 9"}),
    "another position": (
        "UPDATE identities SET position = 4 WHERE log_id = 1 AND position = 9",
        {"position 4", "position 9"},
    ),
    "another name": (
        "UPDATE identities SET event_id = 'r.other' WHERE log_id = 1 AND position = 9",
        {"position 9"},
    ),
    "the log of another": (
        "UPDATE identities SET log_id = 99 WHERE log_id = 1 AND position = 9",
        {"position 9", "identities"},
    ),
}


@pytest.mark.parametrize("name", PLANTED)
async def test_an_audit_finds_identities_that_are_not_those_of_the_log(
    hundreds: str, tmp_path: Path, name: str
) -> None:
    text, where = PLANTED[name]
    async with owned(hundreds) as run:
        await run(text)
        for table in ("events", "identities", "subtrees", "checkpoints"):
            for trigger in checks._POSTGRES_EXPECTED:
                if trigger.startswith(table):
                    await run(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")
    found = await faults(hundreds, tmp_path / "files")
    assert {each.partition(":")[0] for each in found} == where

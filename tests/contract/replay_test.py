"""The views follow from the log: folding it again gives the same rows."""

import pytest
from hypothesis import HealthCheck, given, settings

from firmtrail.database.database import Database
from firmtrail.events.event import Event
from firmtrail.events.fleet import ArtifactAdded, DeviceChanged, ReleaseAdded
from firmtrail.events.steering import Asked, RollbackStarted, RolloutStarted, UpdateOffered
from firmtrail.projections import fleet_versions, fold
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.release import ReleaseKey, stream
from tests.databases import new_log, read, write
from tests.fleet import NOON_MS, Step, live, record_events, register, report
from tests.replay import differences
from tests.strategies import DEVICES, lives, ordered_lives

GENERATION_TABLES = {
    "sqlite": """\
SELECT found.name
FROM sqlite_schema AS found, pragma_table_info(found.name) AS columns
WHERE found.type = 'table' AND columns.name = 'generation'
ORDER BY found.name""",
    "postgresql": """\
SELECT columns.table_name
FROM information_schema.columns
WHERE columns.table_schema = current_schema() AND columns.column_name = 'generation'
ORDER BY columns.table_name""",
}
"""Lists the tables of views, by the scheme of the URL."""


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the buckets of positions so small that a short log fills them."""
    monkeypatch.setattr(fleet_versions, "BUCKET_EVENTS", 4)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=lives())
async def test_a_replay_gives_the_rows_that_were_written_live(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    await live(recorder, log_id, life)
    assert await differences(db, log_id) == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=ordered_lives())
async def test_a_replay_of_orders_gives_the_rows_that_were_written_live(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    await record_events(recorder, log_id, [("release/m/1.0.0", ReleaseAdded("m", "1.0.0"))])
    await live(recorder, log_id, life)
    assert await differences(db, log_id) == []


async def test_every_table_that_a_view_fills_is_compared(db: Database, database_url: str) -> None:
    found = await read(db, GENERATION_TABLES[database_url.partition(":")[0]])
    compared = {table.name for view in fold.VIEWS for table in view.TABLES}
    assert {name for [name] in found} - {"views", "rebuilds"} == compared


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("device_current", "UPDATE device_current SET version = '9.9.9' WHERE device = 'd1'"),
        ("device_attributes", "UPDATE device_attributes SET model = 'x' WHERE device = 'd1'"),
        ("device_history", "DELETE FROM device_history WHERE device = 'd1'"),
        ("fleet_versions", "UPDATE fleet_versions SET devices = devices + 1"),
        ("releases", "UPDATE releases SET withdrawn_position = 7"),
        ("release_artifacts", "UPDATE release_artifacts SET sha256 = 'x'"),
        ("releases", "DELETE FROM releases WHERE version = '1.1.0'"),
        ("rollouts", "UPDATE rollouts SET reach = 9999"),
        ("rollouts", "DELETE FROM rollouts"),
        ("device_offers", "UPDATE device_offers SET attempts = attempts + 1"),
        ("device_offers", "DELETE FROM device_offers"),
        ("device_asks", "UPDATE device_asks SET answered_position = 7"),
        ("device_asks", "DELETE FROM device_asks"),
        ("fleet_labels", "UPDATE fleet_labels SET devices = devices + 1"),
        ("recalled_devices", "UPDATE recalled_devices SET devices = devices + 1"),
        ("fleet_moves", "UPDATE fleet_moves SET version_entered = 'x'"),
        ("log_heads", "UPDATE log_heads SET recorded_at_ms = recorded_at_ms + 1"),
        ("log_heads", "UPDATE log_heads SET frontier = ''"),
        ("subtrees", "INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, 1, 0, '')"),
    ],
)
async def test_a_row_that_the_log_does_not_give_is_found(
    db: Database, log_id: int, recorder: Recorder, table: str, change: str
) -> None:
    await register(recorder, log_id, "d1", "d2", model="m")
    key = ReleaseKey("m", "1.1.0")
    added = [ReleaseAdded(*key), ArtifactAdded("full.bin", 3, "aa" * 32)]
    await record_events(recorder, log_id, [(stream(key), event) for event in added])
    await recorder.report(log_id, [report("1.0.0", occurred_at_ms=NOON_MS), report("1.1.0")])
    ordered: list[tuple[str, Event]] = [
        ("rollout/r1", RolloutStarted("1.1.0", "m", 10_000)),
        ("rollout/b1", RollbackStarted("1.0.0", "m", 10_000)),
        ("device/d1", DeviceChanged(cohort="beta")),
        ("device/d1", UpdateOffered("1.1.0", "rollout", 1, "r1")),
        ("device/d1", UpdateOffered("1.1.0", "rollback", 1, "b1")),
        ("device/d1", Asked("q_1", "2999-01-01T00:00:00Z")),
    ]
    await record_events(recorder, log_id, ordered)
    assert await differences(db, log_id) == []
    await write(db, change)
    found = await differences(db, log_id)
    assert {line.split()[0].rstrip(":") for line in found} == {table}

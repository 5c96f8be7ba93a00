"""The views are nothing but the log: folding it again gives the same rows."""

import pytest
from hypothesis import HealthCheck, given, settings

from firmtrail.events import ArtifactAdded, ReleaseAdded
from firmtrail.eventstore.database import Database
from firmtrail.projections import fleet_versions
from firmtrail.record import Recorder
from firmtrail.release import Key, stream
from tests.databases import new_log, write
from tests.fleet import NOON_MS, Step, live, record_events, register, report
from tests.replay import differences
from tests.strategies import DEVICES, lives


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets of positions that a short log fills."""
    monkeypatch.setattr(fleet_versions, "BUCKET_EVENTS", 4)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(life=lives())
async def test_a_replay_gives_what_was_written_live(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    await live(recorder, log_id, life)
    assert await differences(db, log_id) == []


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("device_current", "UPDATE device_current SET version = '9.9.9' WHERE device = 'd1'"),
        ("device_attributes", "UPDATE device_attributes SET model = 'x' WHERE device = 'd1'"),
        ("device_history", "DELETE FROM device_history WHERE device = 'd1'"),
        ("fleet_versions", "UPDATE fleet_versions SET devices = devices + 1"),
        ("releases", "UPDATE releases SET withdrawn_position = 7"),
        ("release_artifacts", "UPDATE release_artifacts SET sha256 = 'x'"),
        ("fleet_moves", "UPDATE fleet_moves SET version_entered = 'x'"),
        ("log_heads", "UPDATE log_heads SET recorded_at_ms = recorded_at_ms + 1"),
        ("log_heads", "UPDATE log_heads SET frontier = ''"),
        ("subtrees", "INSERT INTO subtrees (log_id, level, number, hash) VALUES (1, 1, 0, '')"),
    ],
)
async def test_a_row_that_the_log_does_not_say_is_found(
    db: Database, log_id: int, recorder: Recorder, table: str, change: str
) -> None:
    await register(recorder, log_id, "d1", "d2")
    key = Key("m", "1.1.0")
    added = [ReleaseAdded(*key), ArtifactAdded("full.bin", 3, "aa" * 32)]
    await record_events(recorder, log_id, [(stream(key), event) for event in added])
    await recorder.report(log_id, [report("1.0.0", occurred_at_ms=NOON_MS), report("1.1.0")])
    assert await differences(db, log_id) == []
    await write(db, change)
    found = await differences(db, log_id)
    assert {line.split()[0].rstrip(":") for line in found} == {table}

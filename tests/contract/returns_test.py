"""A recall counts to which versions devices return as its offers then send them."""

from collections import Counter
from typing import Any

import pytest

from firmtrail.database.database import Database
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import DeviceChanged, ReleaseWithdrawn
from firmtrail.events.steering import RollbackStarted
from firmtrail.projections import controls, rollout_devices
from firmtrail.projections.rollout_devices import RollbackCounts
from firmtrail.recording.recorder import Recorder
from firmtrail.rules import rollout
from firmtrail.rules.rollout import RolloutState
from tests.contract.steered_log import check_in, release, roll_back
from tests.databases import new_log
from tests.fleet import record_events, register, report

BAD = "2.0.0"
RUNS = {
    "d1": ("1.0.0", BAD),
    "d2": ("1.0.0", "1.1.0", BAD),
    "d3": ("1.1.0", "1.0.0", BAD),
    "d4": ("1.2.0", "1.1.0", BAD),
    "d5": (BAD,),
    "d6": ("0.1.0", BAD),
    "d7": ("1.2.0", BAD),
    "d8": ("1.1.0", BAD),
    "d9": ("1.1.0",),
}
"""The versions that each device ran: 0.1.0 is no release, and 1.2.0 is withdrawn."""


@pytest.fixture
async def log_id(db: Database, recorder: Recorder) -> int:
    """The log of these devices; the update of d2 to 1.1.0 failed, and d8 is pinned."""
    found = await new_log(db, "acme")
    await register(recorder, found, *RUNS, model="m")
    await release(recorder, found, "1.0.0", "1.1.0", "1.2.0", "1.3.0", BAD)
    for name, versions in RUNS.items():
        await recorder.report(found, [report(version, device=name) for version in versions])
    changes: list[tuple[str, Event]] = [
        ("release/m/1.2.0", ReleaseWithdrawn()),
        ("device/d8", DeviceChanged(pinned="1.3.0")),
    ]
    for change in changes:
        await record_events(recorder, found, [change])
    await recorder.report(found, [report("1.1.0", "failed", "d2"), report(BAD, device="d2")])
    return found


def tried(**members: Any) -> RolloutState:
    wanted = RollbackStarted(BAD, "m", 10_000, **members)
    return rollout.started(Recorded(0, 0, "rollout/", "e", "user/u", wanted))


async def counts(db: Database, log_id: int, found: RolloutState) -> RollbackCounts:
    control = await controls.read(db, log_id)
    return await rollout_devices.rollback_counts(db, (log_id, "acme"), found, control, now_ms=0)


async def test_devices_return_to_the_versions_that_they_are_offered(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    counted = await counts(db, log_id, tried())
    assert counted == RollbackCounts(8, 1, 0, 3, 8, (("1.0.0", 3), ("1.1.0", 1)))
    await roll_back(recorder, log_id, BAD)
    names = [name for name in RUNS if name not in {"d8", "d9"}]
    offered = [await check_in(recorder, log_id, name) for name in names]
    ways = Counter(each.version for each in offered)
    assert ways.pop(None) == counted.no_previous
    assert ways == dict(counted.returns)
    started = next(iter((await controls.read(db, log_id)).rollouts.values()))
    assert await counts(db, log_id, started) == counted


async def test_a_fallback_takes_the_devices_that_have_no_earlier_version(
    db: Database, log_id: int
) -> None:
    counted = await counts(db, log_id, tried(fallback="1.3.0"))
    assert counted.returns == (("1.0.0", 3), ("1.3.0", 3), ("1.1.0", 1))
    assert counted.no_previous == 0


async def test_a_recall_to_one_version_sends_all_but_the_pinned_ones_there(
    db: Database, log_id: int
) -> None:
    counted = await counts(db, log_id, tried(version="1.1.0"))
    assert counted == RollbackCounts(8, 1, 0, 0, 8, (("1.1.0", 7),))


async def test_a_recall_sends_no_device_away_if_all_are_pinned(
    db: Database, recorder: Recorder, log_id: int
) -> None:
    names = [name for name in RUNS if name not in {"d8", "d9"}]
    for name in names:
        await record_events(recorder, log_id, [(f"device/{name}", DeviceChanged(pinned="1.3.0"))])
    assert await counts(db, log_id, tried(version="1.1.0")) == RollbackCounts(8, 8, 0, 0, 8, ())


async def test_rarer_versions_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_devices, "RETURNS_MAX", 1)
    one = RollbackCounts(5, 0, 0, 0, 5, (("1.0.0", 3), ("1.1.0", 1), ("1.2.0", 1)))
    assert rollout_devices.common_returns(one) == [("1.0.0", 3), (None, 2)]
    none = RollbackCounts(0, 0, 0, 0, 0)
    assert rollout_devices.common_returns(none) == []

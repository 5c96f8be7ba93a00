"""The counts that views keep of cohorts, tags and recalls are those of the devices themselves."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from firmtrail.database.database import Database
from firmtrail.events.event import Event
from firmtrail.events.fleet import DeviceChanged, DeviceDecommissioned, DeviceRegistered
from firmtrail.events.steering import RollbackStarted, RolloutStarted
from firmtrail.projections import controls, device_pages, fleet_labels, rollout_devices
from firmtrail.projections.device_current import Filter
from firmtrail.projections.fleet_versions import VersionCount
from firmtrail.recording.recorder import Recorder
from tests.contract.steered_log import check_in, release, roll_back
from tests.databases import new_log, read
from tests.fleet import Step, live, record_events, register, report
from tests.replay import differences
from tests.strategies import DEVICES, VERSIONS, ordered_lives

PROJECT = "acme"

ORDERS: list[tuple[str, Event]] = [
    ("rollout/r_rollback", RollbackStarted("1.1.0", "m", 10_000)),
    ("rollout/r_rollout", RollbackStarted("1.0.0", "m", 10_000, tag="x")),
    ("rollout/all", RolloutStarted("2.0.0", "m", 10_000)),
    ("rollout/cohort", RolloutStarted("2.0.0", "m", 10_000, cohort="beta")),
    ("rollout/tag", RolloutStarted("2.0.0", "m", 10_000, tag="x")),
]


async def check_labels(db: Database, log_id: int) -> None:
    """Compares the counts of each label with the devices."""
    for label, which in (
        (fleet_labels.of_cohort("beta"), Filter(cohort="beta")),
        (fleet_labels.of_tag("x"), Filter(tag="x")),
        (fleet_labels.of_tag("y"), Filter(tag="y")),
    ):
        counts = await fleet_labels.counts(db, log_id, label)
        page = await device_pages.page(db, (log_id, PROJECT), which, after="", limit=100)
        states = [device.state for device in page.devices]
        found = Counter((state.model, state.version) for state in states)
        assert {(model, version): devices for model, version, devices in counts} == found


async def check_rollouts(db: Database, log_id: int) -> None:
    """Compares how many devices each rollout is meant for with the devices that it lists."""
    for rollout in (await controls.read(db, log_id)).rollouts.values():
        counted = await rollout_devices.matching(db, log_id, rollout)
        page = await rollout_devices.page(db, (log_id, PROJECT), rollout, after="", limit=100)
        assert counted == len(page.devices), rollout.id


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=ordered_lives())
async def test_the_counts_of_labels_and_of_rollouts_are_those_of_the_devices(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id = await new_log(db, PROJECT)
    await register(recorder, log_id, *DEVICES, model="m")
    await release(recorder, log_id, *VERSIONS)
    await record_events(recorder, log_id, ORDERS)
    await live(recorder, log_id, life)
    await check_labels(db, log_id)
    await check_rollouts(db, log_id)
    assert await differences(db, log_id) == []


async def test_a_device_counts_for_a_recall_while_it_is_meant_for_it(
    db: Database, recorder: Recorder
) -> None:
    log_id = await new_log(db, PROJECT)
    labels = DeviceRegistered("m", "beta")
    await record_events(recorder, log_id, [(f"device/{name}", labels) for name in DEVICES])
    await release(recorder, log_id, "1.0.0", "1.1.0")
    for version in ("1.0.0", "1.1.0"):
        await recorder.report(log_id, [report(version, device=name) for name in DEVICES])
    recall = await roll_back(recorder, log_id, "1.1.0", version="1.0.0", cohort="beta")
    found: list[tuple[int, int]] = []

    async def look() -> None:
        rollout = (await controls.read(db, log_id)).rollouts[recall]
        running = await rollout_devices.running_bad(db, log_id, rollout)
        found.append((await rollout_devices.matching(db, log_id, rollout), running))
        await check_rollouts(db, log_id)

    await look()
    assert (await check_in(recorder, log_id, "d1")).version == "1.0.0"
    await look()
    await recorder.report(log_id, [report("1.0.0", device="d1")])
    await look()
    away: list[Event] = [DeviceChanged(cohort="field"), DeviceChanged(cohort="beta")]
    for event in (*away, DeviceDecommissioned()):
        await record_events(recorder, log_id, [("device/d1", event)])
        await look()
    assert found == [(3, 3), (3, 3), (3, 2), (2, 2), (3, 2), (2, 2)]
    assert await differences(db, log_id) == []


async def test_a_version_that_a_commit_passes_leaves_a_row_without_devices(
    db: Database, recorder: Recorder
) -> None:
    log_id = await new_log(db, PROJECT)
    labels = DeviceRegistered("m", "beta", ("x",))
    await record_events(recorder, log_id, [(f"device/{name}", labels) for name in DEVICES])
    await recorder.report(log_id, [report(device=name) for name in DEVICES])
    passed = [report("1.1.0", device="d1"), report("1.2.0", device="d1")]
    await recorder.report(log_id, passed)
    rows = "SELECT version, devices FROM fleet_labels WHERE label = $1 ORDER BY version"
    for label in (fleet_labels.of_cohort("beta"), fleet_labels.of_tag("x")):
        cells = [("1.0.0", 2), ("1.1.0", 0), ("1.2.0", 1)]
        found = [(version, devices) for version, devices in await read(db, rows, label) if version]
        assert found == cells
        counts = await fleet_labels.counts(db, log_id, label)
        assert counts == [VersionCount("m", version, count) for version, count in cells if count]
    assert await differences(db, log_id) == []


@pytest.mark.parametrize("label", [fleet_labels.of_cohort("none"), fleet_labels.of_tag("beta")])
async def test_a_label_of_no_device_has_no_counts(
    db: Database, recorder: Recorder, label: str
) -> None:
    log_id = await new_log(db, PROJECT)
    await record_events(recorder, log_id, [("device/d1", DeviceRegistered("m", "beta"))])
    assert await fleet_labels.counts(db, log_id, label) == []

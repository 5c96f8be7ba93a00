"""Reads of the past, after the first N events and at a time, agree with a model."""

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings

from firmtrail.database.database import Database
from firmtrail.events.entry import decode
from firmtrail.events.event import Recorded
from firmtrail.eventstore import log
from firmtrail.projections import (
    device_pages,
    fleet_past,
    fleet_versions,
    history_pages,
)
from firmtrail.projections.device_current import Filter
from firmtrail.projections.history_lines import HistoryEntry
from firmtrail.projections.history_pages import EVERY_LINE, HistoryRequest
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import DeviceState
from tests import model
from tests.databases import new_log
from tests.fleet import Step, live, register
from tests.model import Line
from tests.strategies import DEVICES, VERSIONS, lives

EXAMPLES = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEWER = settings(EXAMPLES, max_examples=12)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes buckets so small that a short log fills some."""
    monkeypatch.setattr(fleet_versions, "BUCKET_EVENTS", 4)


async def lived(db: Database, recorder: Recorder, life: list[Step]) -> tuple[int, list[Recorded]]:
    """Makes a new log with this life; returns its id and events."""
    log_id = await new_log(db)
    await register(recorder, log_id, *DEVICES, model="m")
    await live(recorder, log_id, life)
    size = (await log.head(db, log_id)).size
    pages = [page async for page in log.read(db, log_id, 0, size)]
    return log_id, [decode(at, text) for page in pages for at, _, text in page]


async def histories(db: Database, requests: list[HistoryRequest]) -> list[list[Line]]:
    """Returns the lines of each request, the oldest first."""
    whole = [each._replace(lines_max=EVERY_LINE) for each in requests]
    pages = await history_pages.pages(db, whole)
    return [[line_of(entry) for entry in page.entries[::-1]] for page in pages]


def line_of(entry: HistoryEntry) -> Line:
    return Line(
        entry.position,
        entry.version,
        entry.previous_version,
        str(entry.change),
        entry.time_ms,
        entry.late,
    )


def times_of(recorded: list[Recorded]) -> list[int]:
    """Returns the time of every report, and the times 1 ms before and after it."""
    reports = [each for device in model.devices(recorded).values() for each in device.reports]
    return sorted({each.time_ms + around for each in reports for around in (-1, 0, 1)})


@EXAMPLES
@given(life=lives())
async def test_a_history_as_of_any_size_agrees_with_the_model(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id, recorded = await lived(db, recorder, life)
    requests = [
        HistoryRequest(log_id, name, stop=stop)
        for stop, name in product(range(3, len(recorded) + 1), DEVICES)
    ]
    for one, lines in zip(requests, await histories(db, requests), strict=True):
        device = model.devices(recorded[: one.stop])[one.device]
        assert lines == model.history(device.moving()), one


@EXAMPLES
@given(life=lives())
async def test_a_history_at_any_time_agrees_with_the_model(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id, recorded = await lived(db, recorder, life)
    stops = sorted({3, len(recorded) // 2 + 2, len(recorded)})
    requests = [
        HistoryRequest(log_id, name, stop=stop, at_ms=at_ms)
        for stop, at_ms, name in product(stops, times_of(recorded), DEVICES)
    ]
    for one, lines in zip(requests, await histories(db, requests), strict=True):
        device = model.devices(recorded[: one.stop])[one.device]
        assert lines == model.history(device.moving_until(one.at_ms or 0)), one


@EXAMPLES
@given(life=lives())
async def test_the_counts_as_of_any_size_agree_with_the_model(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id, recorded = await lived(db, recorder, life)
    for stop in range(len(recorded) + 1):
        size, counts = await fleet_versions.counts(db, log_id, stop)
        assert size == len(recorded)
        expected = model.counts(model.devices(recorded[:stop]))
        assert {(one.model, one.version): one.devices for one in counts} == expected, stop
    assert (await fleet_versions.counts(db, log_id))[1] == counts
    for name in {one.model or "" for one in counts}:
        of_model = [one.devices for one in counts if (one.model or "") == name]
        assert await fleet_versions.of_model(db, log_id, name) == sum(of_model)


def facts_of(state: DeviceState) -> dict[str, object]:
    return {
        "model": state.model,
        "cohort": state.cohort,
        "tags": state.tags,
        "out": state.decommissioned,
        "pinned": state.pinned,
        "version": state.version,
        "previous": state.previous_version,
        "since_ms": state.since_ms,
        "last": (state.status, state.clock),
    }


def facts_by(device: model.Device, at_ms: int | None = None) -> dict[str, object]:
    reports = device.order() if at_ms is None else device.moving_until(at_ms)
    lines = model.history(device.moving() if at_ms is None else reports)
    assert device.attributes is not None
    return {
        "pinned": None,
        "cohort": None,
        **device.attributes,
        "version": lines[-1].version if lines else None,
        "previous": lines[-1].previous if lines else None,
        "since_ms": lines[-1].since_ms if lines else None,
        "last": (reports[-1].status, reports[-1].clock) if reports else (None, None),
    }


@EXAMPLES
@given(life=lives())
async def test_a_devices_state_agrees_with_the_model_now_and_as_of_any_size(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id, recorded = await lived(db, recorder, life)
    for stop in range(len(recorded) + 1):
        then = await fleet_past.states(db, fleet_past.Past(log_id, stop), DEVICES)
        expected = model.devices(recorded[:stop])
        assert {name: facts_of(state) for name, state in then.items()} == {
            name: facts_by(device) for name, device in expected.items()
        }, stop
    current = (
        await device_pages.page(
            db, (log_id, "acme"), Filter(decommissioned=None), after="", limit=9
        )
    ).devices
    assert [facts_of(found.state) for found in current] == [
        facts_of(then[name]) for name in DEVICES
    ]


@FEWER
@given(life=lives())
async def test_which_devices_ran_a_version_at_a_time_agrees_with_the_model(
    db: Database, recorder: Recorder, life: list[Step]
) -> None:
    log_id, recorded = await lived(db, recorder, life)
    found = model.devices(recorded)
    for at_ms, version in product(times_of(recorded), VERSIONS):
        past = fleet_past.Past(log_id, len(recorded), at_ms)
        ran = await fleet_past.page(
            db, past, Filter(version=version, decommissioned=None), after="", limit=9
        )
        assert [facts_of(state) for state in ran.devices] == [
            facts
            for name in DEVICES
            if (facts := facts_by(found[name], at_ms))["version"] == version
        ]

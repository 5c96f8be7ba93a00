"""Tests that a device's reports mean the same in whatever order they arrive."""

import asyncio
from itertools import count
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from firmtrail.database.database import Database
from firmtrail.events.fleet import DeviceSecretIssued, ReleaseAdded
from firmtrail.eventstore import log
from firmtrail.projections import device_current, history_pages
from firmtrail.projections.history_lines import HistoryEntry
from firmtrail.projections.history_pages import EVERY_LINE, HistoryRequest
from firmtrail.recording.recorder import Recorder
from firmtrail.rules.device import DeviceState, Refused
from firmtrail.rules.report import ReportCommand
from tests.fleet import NOON_MS, received, record_events, register, report
from tests.strategies import deliveries, lawful, ordered

EXAMPLES = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])

_devices = map("d{}".format, count(1))


async def deliver(
    recorder: Recorder, log_id: int, units: list[list[ReportCommand]], *, together: bool = False
) -> str:
    """Sends these as a new device, one unit after the other's answer or all in parallel; returns
    its name."""
    name = next(_devices)
    await register(recorder, log_id, name)
    calls = [
        recorder.report(log_id, [replace(sent, device=name) for sent in unit]) for unit in units
    ]
    answers = await asyncio.gather(*calls) if together else [await call for call in calls]
    assert [len(answer) for answer in answers] == [len(unit) for unit in units]
    for answer in answers:
        for outcome in answer:
            received(outcome)
    return name


async def state_of(db: Database, log_id: int, name: str) -> DeviceState:
    rows = await db.read(device_current.load_live([(log_id, name)]))
    _, found = device_current.size_and_device([row[1:] for row in rows])
    assert found is not None
    return found.state


async def entries_of(db: Database, log_id: int, name: str, moves: int) -> list[HistoryEntry]:
    asked = HistoryRequest(log_id, name, moves=moves, lines_max=EVERY_LINE)
    [page] = await history_pages.pages(db, [asked])
    return page.entries


def lasting(entry: HistoryEntry) -> HistoryEntry:
    """Returns the offer without the members that may depend on the time of recording."""
    is_own_time = entry.occurred_at_ms is not None and entry.clock is None
    time_ms = entry.time_ms if is_own_time else 0
    return replace(entry, position=0, recorded_at_ms=0, late=False, time_ms=time_ms)


async def seen(db: Database, log_id: int, name: str) -> dict[str, Any]:
    state = await state_of(db, log_id, name)
    return {
        "current": (state.version, state.previous_version, state.run_place),
        "last": (state.status, state.clock, state.last_version, state.last_place),
        "history": [lasting(entry) for entry in await entries_of(db, log_id, name, moves=1)],
        "progress": [lasting(entry) for entry in await entries_of(db, log_id, name, moves=0)],
    }


@EXAMPLES
@given(st.data())
async def test_any_order_any_repetition_and_any_units_mean_the_same(
    db: Database, log_id: int, recorder: Recorder, data: st.DataObject
) -> None:
    reports = data.draw(lawful())
    units = data.draw(deliveries(reports))
    together = data.draw(st.booleans())
    in_order = await deliver(recorder, log_id, [[sent] for sent in reports])
    as_drawn = await deliver(recorder, log_id, units, together=together)
    assert await seen(db, log_id, as_drawn) == await seen(db, log_id, in_order)


@EXAMPLES
@given(st.data())
async def test_orders_in_between_change_none_of_it(
    db: Database, log_id: int, recorder: Recorder, data: st.DataObject
) -> None:
    """Records offers, retries and new countings between earlier reports and the set.

    A set by the clock is left out if it says both that a version runs before an offer of it, or
    before the registration, and that the device is at it later: there a clock is not believed in
    every order.
    """
    if not (await log.head(db, log_id)).control_count:
        await record_events(recorder, log_id, [("release/m/1.0.0", ReleaseAdded("m", "1.0.0"))])
    before = data.draw(lawful())
    first_ms = NOON_MS + data.draw(st.integers(-10, 30))
    reports = data.draw(lawful(first_ms))
    reports = [replace(one, report_id=one.report_id and f"{one.report_id}b") for one in reports]
    orders = data.draw(st.lists(ordered, max_size=3))
    units = data.draw(deliveries(reports))
    is_new_counting = any(isinstance(each, DeviceSecretIssued) for each in orders)
    assume(is_new_counting or before[0].seq is None or reports[0].seq is not None)
    shown = []
    for parts in ([[sent] for sent in reports], units):
        name = next(_devices)
        await register(recorder, log_id, name, model="m")
        await recorder.report(log_id, [replace(sent, device=name) for sent in before])
        await record_events(recorder, log_id, [(f"device/{name}", each) for each in orders])
        for unit in parts:
            await recorder.report(log_id, [replace(sent, device=name) for sent in unit])
        shown.append(await seen(db, log_id, name))
        assume("behind" not in {entry.clock for entry in shown[-1]["progress"]})
    assert shown[0] == shown[1]


async def test_a_refused_seq_does_not_hide_that_the_next_report_is_late(
    db: Database, log_id: int, recorder: Recorder
) -> None:
    """Sends both in one unit, for a device without any recorded report with a seq."""
    noon = report("2.0.0", report_id="a", occurred_at_ms=NOON_MS)
    reused = replace(noon, seq=5)
    before_noon = report("1.0.0", occurred_at_ms=NOON_MS - 1)
    name = next(_devices)
    await register(recorder, log_id, name)
    await recorder.report(log_id, [replace(noon, device=name)])
    refused, late = await recorder.report(
        log_id, [replace(sent, device=name) for sent in (reused, before_noon)]
    )
    assert isinstance(refused, Refused)
    assert not received(late).duplicate
    state = await state_of(db, log_id, name)
    assert (state.version, state.previous_version) == ("2.0.0", "1.0.0")

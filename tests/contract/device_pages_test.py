"""Tests that pages of devices look at a bounded number of them, and together name all."""

import sqlite3
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace

from firmtrail.access import attributes
from firmtrail.database.database import Database, Statement
from firmtrail.database.sqlite import SQLite
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import DeviceChanged, DeviceDecommissioned, DeviceRegistered
from firmtrail.events.steering import RollbackStarted
from firmtrail.projections import (
    controls,
    device_current,
    device_pages,
    fleet_past,
    rollout_devices,
)
from firmtrail.projections.device_current import Filter
from firmtrail.projections.fleet_past import Past
from firmtrail.projections.rollout_devices import RollbackCounts
from firmtrail.recording.recorder import Recorder
from firmtrail.rules import attributes as rules
from firmtrail.rules import rollout
from firmtrail.rules.device import FAILING, DeviceState
from tests.contract.steered_log import check_in, release, roll_out
from tests.databases import new_log
from tests.fleet import record_events, register, report

HEAD_PROJECT = "acme"
NAMES = [f"d{number:02}" for number in range(40)]
LOOKED_AT = 6
LIMIT = 2


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_pages, "LOOKED_AT_MAX", LOOKED_AT)
    monkeypatch.setattr(fleet_past, "CHUNK_DEVICES", 3)


def labels(number: int) -> DeviceRegistered:
    tags = ("lab",) if number in {3, 38} else ("eu",) if number % 2 else ()
    cohort = "canary" if number in {37, 39} else "stable" if number % 3 else None
    return DeviceRegistered("m2" if number % 7 == 0 else "m", cohort, tags, pending=number == 36)


@pytest.fixture
async def mixed(db: Database, recorder: Recorder) -> int:
    """A log of devices of which few are in a cohort, have a tag, failed, or were changed."""
    log_id = await new_log(db)
    made: list[tuple[str, Event]] = [
        (f"device/{name}", labels(number)) for number, name in enumerate(NAMES)
    ]
    await record_events(recorder, log_id, made)
    changes: list[tuple[str, Event]] = [
        ("device/d39", DeviceChanged(cohort="other")),
        ("device/d39", DeviceChanged(cohort="canary")),
        ("device/d01", DeviceChanged(cohort="canary")),
        ("device/d01", DeviceChanged(cohort="stable")),
        ("device/d05", DeviceDecommissioned()),
    ]
    for each in changes:
        await record_events(recorder, log_id, [each])
    reports = [
        report("1.1.0" if name > "d35" else "1.0.0", "failed" if name == "d34" else "running", name)
        for name in NAMES
        if name not in {"d05", "d36"}
    ]
    await recorder.report(log_id, reports)
    for name in ("d02", "d20", "d39"):
        whose = (HEAD_PROJECT, name)
        await attributes.change(db, whose, "merge", {"region": "r1"}, now_ms=1)
    return log_id


type Predicate = Callable[[DeviceState], bool]

PAIR = rules.pair("region:r1")

FILTERS: dict[str, tuple[Filter, Predicate]] = {
    "all": (Filter(), lambda _: True),
    "also decommissioned": (Filter(decommissioned=None), lambda _: True),
    "a cohort of few": (Filter(cohort="canary"), lambda each: each.cohort == "canary"),
    "a cohort of many": (Filter(cohort="stable"), lambda each: each.cohort == "stable"),
    "no cohort of this name": (Filter(cohort="none"), lambda _: False),
    "a tag of few": (Filter(tag="lab"), lambda each: "lab" in each.tags),
    "a version of few": (Filter(version="1.1.0"), lambda each: each.version == "1.1.0"),
    "a model": (Filter(model="m2"), lambda each: each.model == "m2"),
    "failing": (Filter(failing=True), lambda each: each.status in FAILING),
    "not failing": (Filter(failing=False), lambda each: each.status not in FAILING),
    "waiting": (Filter(waiting=True), lambda each: each.pending),
    "a prefix": (Filter(prefix="d3"), lambda each: each.device.startswith("d3")),
    "the prefix of one": (Filter(prefix="d39"), lambda each: each.device == "d39"),
    "no such prefix": (Filter(prefix="e"), lambda _: False),
    "a prefix and a cohort": (
        Filter(prefix="d3", cohort="canary"),
        lambda each: each.device.startswith("d3") and each.cohort == "canary",
    ),
    "a cohort and a version": (
        Filter(cohort="stable", version="1.1.0"),
        lambda each: (each.cohort, each.version) == ("stable", "1.1.0"),
    ),
    "an attribute": (Filter(pairs=(PAIR,)), lambda each: each.device in {"d02", "d20", "d39"}),
    "an attribute and a cohort": (
        Filter(pairs=(PAIR,), cohort="canary"),
        lambda each: each.device == "d39",
    ),
    "silent": (Filter(silent_since_ms=1 << 60), lambda _: True),
    "never silent": (Filter(silent_since_ms=1), lambda _: False),
}


async def states(db: Database, log_id: int) -> list[DeviceState]:
    rows = await db.read(device_current.load(log_id, 1, NAMES))
    return sorted(device_current.states(rows).values(), key=lambda each: each.device)


def selected(found: list[DeviceState], which: Filter, matches: Predicate) -> list[str]:
    return [
        each.device
        for each in found
        if matches(each) and which.decommissioned in {None, each.decommissioned}
    ]


async def walk(db: Database, log_id: int, which: Filter) -> AsyncIterator[list[str]]:
    """Yields the names on each page, until there is no further one."""
    after: str | None = ""
    while after is not None:
        found = await device_pages.page(db, (log_id, HEAD_PROJECT), which, after=after, limit=LIMIT)
        assert len(found.devices) <= LIMIT
        assert found.last is None or found.last > after
        yield [each.state.device for each in found.devices]
        after = found.last


@pytest.mark.parametrize("name", FILTERS)
async def test_the_pages_of_a_filter_name_each_device_that_matches_once(
    db: Database, mixed: int, name: str
) -> None:
    which, matches = FILTERS[name]
    expected = selected(await states(db, mixed), which, matches)
    pages = [page async for page in walk(db, mixed, which)]
    assert [device for page in pages for device in page] == expected
    head = (mixed, HEAD_PROJECT)
    assert await device_pages.count(db, head, which, 100) == (len(expected), True)
    some, is_all = await device_pages.count(db, head, which, LOOKED_AT)
    assert some == len(expected) if is_all else some <= min(LOOKED_AT, len(expected))


async def test_a_page_of_a_rare_tag_may_be_empty_and_names_a_next_one(
    db: Database, mixed: int
) -> None:
    pages = [page async for page in walk(db, mixed, Filter(tag="lab"))]
    assert pages[0] == ["d03"]
    assert [] in pages


async def test_a_page_of_a_cohort_looks_at_no_device_of_another(db: Database, mixed: int) -> None:
    pages = [page async for page in walk(db, mixed, Filter(cohort="canary"))]
    assert pages == [["d37", "d39"]]


@pytest.mark.parametrize(
    "name",
    ["all", "a cohort of few", "a cohort of many", "a tag of few", "a version of few", "a prefix"],
)
async def test_the_pages_of_the_past_name_each_device_that_matched_once(
    db: Database, recorder: Recorder, mixed: int, name: str
) -> None:
    which, matches = FILTERS[name]
    expected = selected(await states(db, mixed), which, matches)
    size = len(NAMES) + 5 + len(NAMES) - 2
    await record_events(recorder, mixed, [("device/d38", DeviceChanged(cohort="x", tags=()))])
    names: list[str] = []
    after: str | None = ""
    while after is not None:
        found = await fleet_past.page(db, Past(mixed, size), which, after=after, limit=LIMIT)
        names += [each.device for each in found.devices]
        after = found.last
    assert names == expected


async def test_the_devices_that_a_rollout_made_an_offer_are_found_by_it(
    db: Database, recorder: Recorder
) -> None:
    log_id = await new_log(db)
    await register(recorder, log_id, *NAMES, model="m")
    await release(recorder, log_id, "1.0.0", "1.1.0")
    await recorder.report(log_id, [report(device=name) for name in NAMES])
    made = await roll_out(recorder, log_id, "1.1.0")
    for name in ("d07", "d39"):
        await check_in(recorder, log_id, name)
    pages = [page async for page in walk(db, log_id, Filter(offered_by=made))]
    assert pages == [["d07", "d39"]]
    await recorder.report(log_id, [report("1.1.0", "failed", "d39")])
    for outcome, names in (("failed", ["d39"]), ("", ["d07"]), ("installed", [])):
        which = Filter(offered_by=made, ended=(made, outcome))
        found = [name async for page in walk(db, log_id, which) for name in page]
        assert found == names, outcome


async def test_devices_are_not_selected_by_an_offer_and_by_what_they_say() -> None:
    with pytest.raises(AssertionError, match="only one of them"):
        device_pages.source_of(Filter(offered_by="r", pairs=(PAIR,)), [])


@pytest.mark.parametrize("which", [Filter(failing=True), Filter(waiting=True)])
async def test_sqlite_is_ordered_to_use_the_index_of_few_devices(
    db: Database, mixed: int, which: Filter
) -> None:
    """Its planner would take the primary key, and read the fleet. SQLite refuses an index that
    there is not; PostgreSQL, which has statistics, reads a comment."""
    table = device_pages.source_of(which, []).table
    assert "/*INDEXED BY device_current_" in table
    wrong = Statement(f"SELECT count(*) FROM {table.replace('BY device', 'BY no_device')}")
    if isinstance(db, SQLite):
        with pytest.raises(sqlite3.OperationalError, match="no such index"):
            await db.read(wrong)
    else:
        [[found]] = await db.read(wrong)
        assert found == len(NAMES)


async def test_the_counts_of_a_rollback_say_how_many_devices_they_looked_at(
    db: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_id = await new_log(db)
    await register(recorder, log_id, *NAMES, model="m")
    await release(recorder, log_id, "1.0.0", "1.1.0")
    await recorder.report(log_id, [report("1.1.0", device=name) for name in NAMES[10:]])
    await record_events(recorder, log_id, [("device/d12", DeviceChanged(pinned="1.0.0"))])
    rollback = rollout.started(
        Recorded(0, 0, "rollout/r", "e", "user/u", RollbackStarted("1.1.0", "m", 10_000))
    )
    control = await controls.read(db, log_id)

    async def counted(tag: str | None = None) -> RollbackCounts:
        return await rollout_devices.rollback_counts(
            db, (log_id, HEAD_PROJECT), replace(rollback, tag=tag), control, now_ms=0
        )

    assert await counted() == RollbackCounts(30, 1, 0, 30, 30)
    assert await counted("none") == RollbackCounts(0, 0, 0, 0, 0)
    monkeypatch.setattr(rollout_devices, "SEARCHED_MAX", 15)
    assert await counted() == RollbackCounts(30, 1, 0, 5, 5)
    monkeypatch.setattr(rollout_devices, "SEARCHED_MAX", 5)
    assert await counted() == RollbackCounts(30, 0, 0, 0, 0)

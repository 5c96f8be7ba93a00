"""A view is built again while the live one serves, and is the same row for row."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from firmtrail.archive import prune
from firmtrail.database.database import Database
from firmtrail.events.event import Event
from firmtrail.events.fleet import ArtifactAdded, DeviceChanged, ReleaseAdded, ReleaseWithdrawn
from firmtrail.events.steering import Asked, RollbackStarted, RolloutStarted, UpdateOffered
from firmtrail.projections import fleet_versions, fold
from firmtrail.rebuilding import generations, rebuild, refold
from firmtrail.rebuilding.generations import Build, Busy, Overtaken
from firmtrail.recording.check_ins import CheckIn
from firmtrail.recording.recorder import Recorder
from tests import replay
from tests.databases import new_log, read, write
from tests.fleet import NOON_MS, received, record_events, register, report

LEASE_MS = 60_000
DEVICES = [f"d{number}" for number in range(20)]
RELEASED: list[tuple[str, Event]] = [
    ("release/m/1.1.0", ReleaseAdded("m", "1.1.0")),
    ("release/m/1.1.0", ArtifactAdded("full.bin", 3, "aa" * 32)),
    ("release/m/1.1.0", ReleaseWithdrawn()),
]
STEERED: list[tuple[str, Event]] = [
    *((f"release/m/1.{n}.0", ReleaseAdded("m", f"1.{n}.0")) for n in (0, 2, 3, 4)),
    (
        "rollout/r1",
        RolloutStarted("1.4.0", "m", 7_000, failed_percent=60, min_reports=6),
    ),
    ("rollout/b1", RollbackStarted("1.1.0", "m", 10_000, fallback="1.0.0")),
    ("device/d0", UpdateOffered("1.0.0", "rollback", 1, "b1")),
    *((f"device/{name}", DeviceChanged(cohort="beta")) for name in DEVICES[:5]),
    *((f"device/{name}", Asked("q1", "2999-01-01T00:00:00.000Z")) for name in DEVICES),
]
ALL = frozenset(fold.REVISIONS)
REBUILT = [view for view in fold.VIEWS if view is fleet_versions or view.NAME in refold.MEMORY]
"""The views that are built when fleet_versions is rebuilt: it and the fold's memory."""
TABLES = [table.name for view in fold.VIEWS for table in view.TABLES]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a short log take many batches, buckets and transactions."""
    monkeypatch.setattr(fleet_versions, "BUCKET_EVENTS", 32)
    monkeypatch.setattr(refold, "BATCH_EVENTS_FIRST", 16)
    monkeypatch.setattr(refold, "BATCH_EVENTS_MAX", 16)
    monkeypatch.setattr(refold, "BATCH_EVENTS_MIN", 16)
    monkeypatch.setattr(rebuild, "LAST_EVENTS_MAX", 4)
    monkeypatch.setattr(generations, "DELETED_ROWS", 7)


async def send_some(recorder: Recorder, log_id: int, chance: random.Random) -> None:
    """Sends a few reports of a few devices, some of them late."""
    sent = [
        report(
            f"1.{chance.randrange(5)}.0",
            chance.choice(["installed", "running", "failed"]),
            chance.choice(DEVICES),
            report_id=f"{chance.getrandbits(64):x}",
            occurred_at_ms=NOON_MS + chance.randrange(1000),
            question=chance.choice([None, "q1", "q2"]),
        )
        for _ in range(5)
    ]
    await recorder.check_in(log_id, CheckIn(chance.choice(DEVICES), "device/x"))
    for outcome in await recorder.report(log_id, sent):
        received(outcome)


async def filled(db: Database, recorder: Recorder, project: str = "acme") -> int:
    log_id = await new_log(db, project)
    await register(recorder, log_id, *DEVICES, model="m")
    await record_events(recorder, log_id, RELEASED)
    await record_events(recorder, log_id, STEERED)
    chance = random.Random(7)
    for _ in range(30):
        await send_some(recorder, log_id, chance)
    return log_id


async def claimed(
    db: Database, log_id: int, wanted: frozenset[str] = ALL, builder: str = "me"
) -> Build:
    return await db.play(generations.claim, log_id, wanted, builder, LEASE_MS)


async def finish(db: Database, build: Build) -> None:
    async for _ in rebuild.rebuild(db, build):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def reports_coming_in(recorder: Recorder, log_id: int) -> AsyncIterator[None]:
    chance = random.Random(11)

    async def send() -> None:
        while True:
            await send_some(recorder, log_id, chance)

    sending = asyncio.create_task(send())
    try:
        yield
    finally:
        assert not sending.done()  # no report failed
        sending.cancel()
        await asyncio.wait([sending])
        await recorder.close()


async def test_the_last_transaction_reads_only_entries_that_are_never_pruned(
    db: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log grows too fast for 20 tries."""
    log_id = await filled(db, recorder)
    play, allowed = db.play, list[int]()

    async def too_late(script: Any, *args: Any) -> Any:
        if script is rebuild._end:
            allowed.append(args[1])
            if len(allowed) <= 20:
                return None
        return await play(script, *args)

    monkeypatch.setattr(db, "play", too_late)
    await finish(db, await claimed(db, log_id))
    assert allowed[0] < max(allowed) == rebuild.NEWEST_EVENTS_MAX <= prune.KEPT_ENTRIES
    assert await replay.differences(db, log_id) == []


async def present(db: Database, log_id: int) -> dict[str, tuple[int, ...]]:
    """Returns, by table, the generations that have rows in it."""
    found = {}
    for table in TABLES:
        text = f"SELECT DISTINCT generation FROM {table} WHERE log_id = $1 ORDER BY generation"
        found[table] = tuple(generation for [generation] in await read(db, text, log_id))
    return found


@pytest.mark.parametrize("wanted", [ALL, *(frozenset({name}) for name in fold.REVISIONS)])
async def test_a_view_rebuilt_while_reports_arrive_agrees_with_the_log(
    db: Database, recorder: Recorder, wanted: frozenset[str]
) -> None:
    log_id = await filled(db, recorder)
    async with reports_coming_in(recorder, log_id):
        await finish(db, await claimed(db, log_id, wanted))
    assert await replay.generations(db, log_id) == {
        name: 2 if name in wanted else 1 for name in fold.REVISIONS
    }
    assert await replay.differences(db, log_id) == []


async def test_a_rebuild_continues_where_it_stopped(db: Database, recorder: Recorder) -> None:
    log_id = await filled(db, recorder)
    positions = []
    while await replay.generations(db, log_id) != dict.fromkeys(fold.REVISIONS, 2):
        build = await claimed(db, log_id)
        positions.append(build.position)
        async with contextlib.aclosing(rebuild.rebuild(db, build)) as steps:
            await anext(steps)
            await anext(steps, None)
    assert positions == sorted(set(positions))
    assert len(positions) > 5
    assert await replay.differences(db, log_id) == []


async def test_a_rebuild_of_another_revision_or_for_other_views_begins_again(
    db: Database, recorder: Recorder
) -> None:
    log_id = await filled(db, recorder)
    for change in ("UPDATE rebuilds SET revision = 0", "UPDATE rebuilds SET is_wanted = 0"):
        async with contextlib.aclosing(rebuild.rebuild(db, await claimed(db, log_id))) as steps:
            for _ in range(4):
                left = await anext(steps)
        await write(db, change)
        again = await claimed(db, log_id)
        assert left.build.position > again.position == 0
        assert again.generation > left.build.generation
    await finish(db, again)
    assert await replay.differences(db, log_id) == []
    await generations.delete_dead(db, log_id)
    assert await present(db, log_id) == dict.fromkeys(TABLES, (again.generation,))


async def test_a_second_builder_is_refused_and_a_slow_one_is_overtaken(
    db: Database, recorder: Recorder
) -> None:
    log_id = await filled(db, recorder)
    mine = await claimed(db, log_id)
    with pytest.raises(Busy, match="is being rebuilt already"):
        await claimed(db, log_id, builder="other")
    theirs = await db.play(generations.claim, log_id, ALL, "other", 0)
    with pytest.raises(Overtaken):
        await finish(db, mine)
    await finish(db, theirs)
    assert await replay.differences(db, log_id) == []


async def test_rows_left_by_a_crash_after_the_switch_are_deleted_later(
    db: Database, recorder: Recorder
) -> None:
    log_id = await filled(db, recorder)
    await finish(db, await claimed(db, log_id, frozenset({"fleet_versions"})))
    rebuilt = [table.name for view in REBUILT for table in view.TABLES]
    both = dict.fromkeys(rebuilt, (1, 2))
    assert await present(db, log_id) == dict.fromkeys(TABLES, (1,)) | both
    await generations.delete_dead(db, log_id)
    assert await present(db, log_id) == dict.fromkeys(TABLES, (1,)) | {
        "fleet_versions": (2,),
        "fleet_moves": (2,),
        "fleet_labels": (2,),
    }
    assert await replay.differences(db, log_id) == []


async def test_deleting_dead_rows_keeps_those_being_built(db: Database, recorder: Recorder) -> None:
    log_id = await filled(db, recorder)
    async for step in rebuild.rebuild(db, await claimed(db, log_id)):
        if not step.is_live:
            await generations.delete_dead(db, log_id)
    assert await replay.differences(db, log_id) == []


async def test_a_rebuild_of_one_log_leaves_the_others_alone(
    db: Database, recorder: Recorder
) -> None:
    others = await filled(db, recorder, "other")
    log_id = await filled(db, recorder)
    before = await present(db, others)
    left = await claimed(db, others)
    await finish(db, await claimed(db, log_id))
    await generations.delete_dead(db, log_id)
    assert await present(db, others) == before
    assert (await claimed(db, others)).generation == left.generation
    assert await replay.differences(db, others) == []


async def test_a_rebuild_of_an_empty_log_uses_no_generation_twice(db: Database) -> None:
    log_id = await new_log(db)
    for generation in (2, 3):
        await finish(db, await claimed(db, log_id))
        assert set((await replay.generations(db, log_id)).values()) == {generation}


async def test_a_rebuild_repairs_a_view_whose_rows_were_deleted(
    db: Database, recorder: Recorder
) -> None:
    log_id = await filled(db, recorder)
    for table in TABLES:
        await write(db, f"DELETE FROM {table}")
    assert await replay.differences(db, log_id) != []
    await finish(db, await claimed(db, log_id))
    assert await replay.differences(db, log_id) == []

"""A report that repeats a pruned one is decided on exactly, or not at all."""

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import batched
from typing import Any

import pytest

from firmtrail.archive import entries
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.entries import ArchivedEntries
from firmtrail.archive.stores import ArchiveStore
from firmtrail.database.database import Database
from firmtrail.database.entry_archive import Stub
from firmtrail.database.stubs import EntriesAway
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording import queues
from firmtrail.recording import recorder as recording
from firmtrail.recording.queues import CommandUnit, Queue, ReportsUnit
from firmtrail.recording.recorder import Recorder
from firmtrail.recording.reports import ReportReceipt
from firmtrail.rules.device import Refused
from firmtrail.rules.report import ReportCommand
from tests.contract.archiving import archiver, close, grow, location, publisher, store
from tests.contract.pruning import connect, nothing_is_kept, prune, stubs_of
from tests.databases import read
from tests.fleet import receipts, register, report

__all__ = ["archiver", "location", "nothing_is_kept", "publisher", "store"]  # fixtures

OLD = report("2.0.0", report_id="old", detail="as it was")
COUNTED = report("2.0.0", seq=7, device="d2")


class Pruned:
    """A log whose first reports are pruned, and the receipts that they got."""

    def __init__(self, log_id: int, first: Sequence[ReportReceipt]) -> None:
        self.log_id = log_id
        self.first = first


@pytest.fixture
async def pruned(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> Pruned:
    await register(recorder, log_id, "d1", "d2")
    first = await receipts(recorder, log_id, OLD, COUNTED)
    await grow(recorder, log_id, publisher, 300)
    await archiver.following.catch_up()
    await prune(db, store)
    assert await stubs_of(db, log_id) == list(range(256))
    return Pruned(log_id, first)


class SlowStore:
    """Gives one file after another, each after a while."""

    def __init__(self, store: ArchiveStore, wait_s: float) -> None:
        self._store = store
        self._wait_s = wait_s
        self._turn = asyncio.Lock()

    async def get(self, name: str) -> bytes | None:
        async with self._turn:
            await asyncio.sleep(self._wait_s)
            return await self._store.get(name)


@pytest.fixture
async def repeats(
    *,
    db: Database,
    pruned: Pruned,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> list[ReportCommand]:
    """Prunes more, and returns reports that repeat an entry of each of six bundles, which do not
    fit into the cache."""
    reports = [report("2.0.0", report_id=f"r{number}") for number in range(1_400)]
    for part in batched(reports, 700):
        await receipts(recorder, pruned.log_id, *part)
    await grow(recorder, pruned.log_id, publisher, 0)
    await archiver.following.catch_up()
    await prune(db, store)
    monkeypatch.setattr(entries, "CACHE_BYTES_MAX", 0)
    return reports[:1_300:256]


class Away:
    """An archive that does not answer, or answers that it can't."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s

    async def found(self, stubs: Sequence[Stub]) -> dict[Stub, str]:
        await asyncio.sleep(self.wait_s)
        raise EntriesAway(f"{len(stubs)} are away")


async def test_a_repeat_gets_its_first_receipt(
    db: Database, pruned: Pruned, recorder: Recorder, store: ArchiveStore
) -> None:
    connect(db, store)
    again = await receipts(recorder, pruned.log_id, OLD, COUNTED)
    assert [each.position for each in again] == [each.position for each in pruned.first]
    assert [each.recorded_at_ms for each in again] == [each.recorded_at_ms for each in pruned.first]
    assert all(each.duplicate for each in again)


async def test_many_repeats_in_one_call_are_given_each_text_once(
    *,
    db: Database,
    pruned: Pruned,
    recorder: Recorder,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(db, store)
    given: list[int] = []
    add = Queue.add

    def counted(queue: Queue, unit: ReportsUnit | CommandUnit) -> None:
        if isinstance(unit, ReportsUnit):
            given.append(len(unit.texts))
        add(queue, unit)

    monkeypatch.setattr(Queue, "add", counted)
    again = await receipts(recorder, pruned.log_id, OLD, COUNTED, *[OLD] * 98)
    assert all(each.duplicate for each in again)
    assert given == [0, 2]


async def test_repeats_wait_for_a_slow_archive_as_long_as_texts_arrive(
    *,
    db: Database,
    pruned: Pruned,
    repeats: Sequence[ReportCommand],
    recorder: Recorder,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    db.archive = ArchivedEntries(db, SlowStore(store, 0.2))  # type: ignore[arg-type] # only `get`
    monkeypatch.setattr(recording, "ARCHIVE_PART", 1)
    monkeypatch.setattr(recording, "ARCHIVE_PART_S", 0.6)
    again = await receipts(recorder, pruned.log_id, *repeats)
    assert len(again) == 6
    assert all(each.duplicate for each in again)


async def test_repeats_that_were_given_up_continue_when_they_are_sent_again(
    *,
    db: Database,
    pruned: Pruned,
    repeats: Sequence[ReportCommand],
    recorder: Recorder,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    db.archive = ArchivedEntries(db, SlowStore(store, 0.1))  # type: ignore[arg-type] # only `get`
    monkeypatch.setattr(recording, "ARCHIVE_PART", 1)
    monkeypatch.setattr(recording, "ARCHIVE_S", 0.35)
    with pytest.raises(EntriesAway):
        await receipts(recorder, pruned.log_id, *repeats)
    for _ in range(6):
        with contextlib.suppress(EntriesAway):
            again = await receipts(recorder, pruned.log_id, *repeats)
            break
    assert all(each.duplicate for each in again)


async def test_another_report_under_its_identity_is_refused(
    db: Database, pruned: Pruned, recorder: Recorder, store: ArchiveStore
) -> None:
    connect(db, store)
    [outcome] = await recorder.report(pruned.log_id, [report("9.9.9", report_id="old")])
    assert isinstance(outcome, Refused)


@pytest.mark.parametrize("archive", [None, Away(0), Away(60)], ids=["none", "error", "silent"])
async def test_without_the_archive_only_the_call_that_repeats_fails(
    *,
    db: Database,
    pruned: Pruned,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    archive: Any,
) -> None:
    monkeypatch.setattr(recording, "ARCHIVE_PART_S", 0.2)
    db.archive = archive
    [[before]] = await read(db, "SELECT size FROM log_heads WHERE log_id = $1", pruned.log_id)
    calls = [
        recorder.report(pruned.log_id, [report("3.0.0", report_id="new 1")]),
        recorder.report(pruned.log_id, [report("3.0.0", report_id="in the same call"), OLD]),
        recorder.report(pruned.log_id, [report("4.0.0", report_id="new 2")]),
    ]
    first, repeat, last = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert isinstance(repeat, EntriesAway)
    assert repeat.retry_after_s > 0
    [[after]] = await read(db, "SELECT size FROM log_heads WHERE log_id = $1", pruned.log_id)
    assert after == before + 2
    assert recorder.unanswered == 0


async def test_a_repeat_waits_for_no_other_and_no_other_waits_for_it(
    db: Database, pruned: Pruned, recorder: Recorder, store: ArchiveStore
) -> None:
    kept, may_answer = ArchivedEntries(db, store), asyncio.Event()

    class Slow:
        async def found(self, stubs: Sequence[Stub]) -> dict[Stub, str]:
            await may_answer.wait()
            return await kept.found(stubs)

    db.archive = Slow()
    repeat = asyncio.create_task(recorder.report(pruned.log_id, [OLD]))
    await recorder.report(pruned.log_id, [report("5.0.0", report_id="new")])
    assert not repeat.done()
    may_answer.set()
    [again] = await repeat
    assert isinstance(again, ReportReceipt)
    assert again.position == pruned.first[0].position


async def test_repeats_that_wait_for_an_archive_take_no_room_from_other_reports(
    db: Database, pruned: Pruned, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ARCHIVE_S", 1.0)
    monkeypatch.setattr(recording, "QUEUE_COMMANDS_MAX", 4)
    monkeypatch.setattr(queues, "APART_COMMANDS_MAX", 8)
    db.archive = Away(60)
    repeats = []
    for _ in range(2):
        repeats.append(asyncio.create_task(recorder.report(pruned.log_id, [OLD] * 4)))
        while not recorder.unanswered:
            await asyncio.sleep(0)
        while recorder.unanswered:
            await asyncio.sleep(0.001)
    with pytest.raises(EntriesAway, match="too many reports wait for the archive"):
        await recorder.report(pruned.log_id, [OLD])
    new = [report("3.0.0", report_id=f"new {n}") for n in range(4)]
    assert len(await receipts(recorder, pruned.log_id, *new)) == 4
    answers = await asyncio.gather(*repeats, return_exceptions=True)
    assert [type(each) for each in answers] == [EntriesAway, EntriesAway]
    assert recorder.unanswered == 0


async def test_a_repeat_in_a_newer_log_names_the_log_that_gave_its_receipt(
    *,
    db: Database,
    pruned: Pruned,
    recorder: Recorder,
    publisher: Publisher,
    store: ArchiveStore,
) -> None:
    connect(db, store)
    await close(db, pruned.log_id, publisher)
    [[newest]] = await read(db, "SELECT max(log_id) FROM log_heads")
    [again] = await receipts(recorder, newest, OLD)
    assert (again.log, again.position) == (1, pruned.first[0].position)

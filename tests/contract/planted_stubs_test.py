"""A stub that names another place shows nobody the entry that is there."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firmtrail.archive.archiver import Archiver
from firmtrail.archive.stores import ArchiveStore, FolderStore
from firmtrail.database import stubs
from firmtrail.database.database import Database
from firmtrail.database.stubs import EntriesAway, MisplacedStub
from firmtrail.eventstore import free_texts, lineage, log, replay, stored_events, tree
from firmtrail.eventstore.log import EntryPage
from firmtrail.eventstore.replay import Part
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.contract.archiving import archiver, begin, publisher
from tests.contract.pruning import archived, connect, nothing_is_kept, prune
from tests.databases import new_log, read
from tests.fleet import receipts, report
from tests.losses import owned

__all__ = ["archiver", "nothing_is_kept", "publisher"]  # fixtures

AT = 300
STREAM = "device/d1"


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def store(location: Path) -> ArchiveStore:
    return FolderStore(location)


@pytest.fixture
async def other(
    *,
    db: Database,
    recorder: Recorder,
    log_id: int,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> int:
    """The log of another project; both are pruned, and the archive is given."""
    other = await new_log(db, "other")
    await begin(recorder, other, publisher, 600)
    await archived(recorder, log_id, publisher, archiver)
    await prune(db, store)
    connect(db, store)
    return other


async def stub_of(db: Database, log_id: int, position: int) -> str:
    text = "SELECT entry FROM events WHERE log_id = $1 AND position = $2"
    [[entry]] = await read(db, text, log_id, position)
    assert stubs.parse(entry) is not None
    return str(entry)


async def plant(url: str, log_id: int, position: int, stub: str) -> None:
    where = f"log_id = {log_id} AND position = {position}"
    async with owned(url) as run:
        await run(f"UPDATE events SET entry = '{stub}' WHERE {where}")


async def seen(pages: AsyncIterator[EntryPage] | AsyncIterator[Part]) -> None:
    async for _ in pages:
        pass


async def refuses_all(db: Database, log_id: int, stop: int = 512) -> None:
    """Reads in each way in which entries are read."""
    span = {"start": AT - 10, "stop": stop}
    reads = (
        seen(log.read(db, log_id, 0, stop)),
        seen(replay.newest_first(db, log_id, 0, stop)),
        seen(replay.read_stream(db, log_id, STREAM, **span)),
        seen(replay.newest_of_stream(db, log_id, STREAM, **span)),
        stored_events.page(db, log_id, AT, AT + 1, limit=1),
        free_texts.entry_and_text(db, log_id, AT),
        tree.bundle(db, log_id, 1, 256),
    )
    for each in reads:
        with pytest.raises(MisplacedStub):
            await each


@pytest.mark.parametrize("is_other_log", [True, False], ids=["log", "position"])
async def test_no_read_shows_the_entry_of_another_place(
    db: Database,
    database_url: str,
    log_id: int,
    other: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_other_log: bool,
) -> None:
    named = await stub_of(db, other, AT) if is_other_log else await stub_of(db, log_id, AT + 1)
    await plant(database_url, log_id, AT, named)
    await refuses_all(db, log_id)
    monkeypatch.setattr(replay, "STREAM_EVENTS_MAX", 10)
    await refuses_all(db, log_id)


async def test_no_read_of_a_log_that_was_continued_shows_the_entry_of_another_place(
    db: Database, database_url: str, log_id: int, other: int
) -> None:
    async with db.transaction() as tx:
        await tx.run(lineage.continue_log(newer := 77, log_id, 512))
    start = await lineage.first_position(db, newer)
    assert log.page_of(newer, start, await db.read(log.page(newer, start, 0, 1_000)))
    await plant(database_url, log_id, AT, await stub_of(db, other, AT))
    with pytest.raises(MisplacedStub):
        await db.read(log.page(newer, start, 0, 1_000))


async def test_a_repeat_is_not_compared_with_the_entry_of_another_place(
    db: Database, database_url: str, recorder: Recorder, log_id: int, other: int
) -> None:
    """An answer would say whether the other entry is the same report."""
    [[position, event_id]] = await read(
        db, "SELECT position, event_id FROM events WHERE log_id = $1 AND position = 300", log_id
    )
    again = report(report_id=event_id.removeprefix("r."))
    [first] = await receipts(recorder, log_id, again)
    assert (first.position, first.duplicate) == (position, True)
    await plant(database_url, log_id, AT, await stub_of(db, other, AT))
    with pytest.raises(EntriesAway, match="does not hold the entry at position 300"):
        await receipts(Recorder(db), log_id, again)

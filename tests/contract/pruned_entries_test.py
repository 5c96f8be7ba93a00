"""The reads of pruned entries: no more files than wanted, and no wrong file for longer than it is
there."""

import asyncio
from pathlib import Path
from typing import override

import pytest

from firmtrail.archive import entries
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.entries import CALL_READS_MAX, ArchivedEntries
from firmtrail.archive.layout import folder_of
from firmtrail.archive.stores import ArchiveStore, FolderStore
from firmtrail.database.database import Database
from firmtrail.database.entry_archive import Stub
from firmtrail.database.stubs import EntriesAway
from firmtrail.eventstore import free_texts, replay
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.contract.archiving import (
    archiver,
    audited,
    begin,
    in_folder,
    location,
    publisher,
    store,
)
from tests.contract.pruning import archived, connect, nothing_is_kept, prune
from tests.databases import new_log
from tests.publishing import ACME

__all__ = ["archiver", "location", "nothing_is_kept", "publisher", "store"]  # fixtures

FILES = 300


class SlowStore(FolderStore):
    """A folder without files, which takes a while to say so, or fails."""

    def __init__(self, folder: Path, *, fails: bool = False) -> None:
        super().__init__(folder)
        self.begun = self.running = self.most = 0
        self._fails = fails

    @override
    async def get(self, name: str) -> bytes | None:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.002)
        self.running -= 1
        if self._fails:
            raise OSError("away")
        return None


def stubs_in_many_bundles(log_id: int) -> list[Stub]:
    return [Stub(log_id, number * 256, "00" * 32) for number in range(FILES)]


async def begins(store: SlowStore) -> None:
    while not store.begun:
        await asyncio.sleep(0)


async def test_a_call_that_is_given_up_leaves_no_reads_behind(
    db: Database, log_id: int, tmp_path: Path
) -> None:
    slow = SlowStore(tmp_path)
    call = asyncio.create_task(ArchivedEntries(db, slow).found(stubs_in_many_bundles(log_id)))
    await begins(slow)
    call.cancel()
    begun = slow.begun
    await asyncio.sleep(0.1)
    assert slow.begun <= begun + CALL_READS_MAX


async def test_a_call_of_which_a_read_fails_leaves_no_reads_behind(
    db: Database, log_id: int, tmp_path: Path
) -> None:
    broken = SlowStore(tmp_path, fails=True)
    with pytest.raises(EntriesAway):
        await ArchivedEntries(db, broken).found(stubs_in_many_bundles(log_id))
    await asyncio.sleep(0.1)
    assert broken.begun <= 2 * CALL_READS_MAX


async def test_a_call_for_many_files_lets_others_read(
    db: Database, log_id: int, tmp_path: Path
) -> None:
    slow = SlowStore(tmp_path)
    archive = ArchivedEntries(db, slow)
    many = asyncio.create_task(archive.found(stubs_in_many_bundles(log_id)))
    await begins(slow)
    assert await archive.found([Stub(log_id, 10_000_000, "00" * 32)]) == {}
    assert slow.begun < FILES
    assert await many == {}
    assert slow.most <= CALL_READS_MAX + 1


async def test_a_log_whose_entries_are_in_another_archive_keeps_no_other_from_a_new_one(
    *,
    db: Database,
    recorder: Recorder,
    log_id: int,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    tmp_path: Path,
) -> None:
    await archived(recorder, log_id, publisher, archiver)
    await prune(db, store)
    other = await new_log(db, "other")
    await begin(recorder, other, publisher, 300)
    new = FolderStore(tmp_path / "new")
    connect(db, new)
    follower = Archiver(db, publisher, new, location="new", is_alone=False)
    await follower.following.round()
    assert follower.following.problem is not None
    assert list(follower.refused) == [ACME]
    assert (await audited(new, LogName("other", 1)))[0] == 256
    connect(db, store)
    await follower.following.round()
    assert follower.refused == {}
    assert (await audited(new))[0] == 1_024


class CountedStore(FolderStore):
    """Counts the files that are read."""

    reads = 0

    @override
    async def get(self, name: str) -> bytes | None:
        self.reads += 1
        return await super().get(name)


@in_folder
async def test_the_first_entries_of_a_stream_need_only_their_own_files(
    *,
    db: Database,
    recorder: Recorder,
    log_id: int,
    publisher: Publisher,
    archiver: Archiver,
    store: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await archived(recorder, log_id, publisher, archiver)
    await prune(db, store)
    monkeypatch.setattr(replay, "PIECE_ENTRIES", 100)
    span = {"start": 300, "stop": 1_000}
    connect(db, counted := CountedStore(store._folder))
    oldest = await anext(replay.read_stream(db, log_id, "device/d1", **span))
    assert [position for position, _, _ in oldest] == list(range(300, 400))
    assert counted.reads == 1
    connect(db, counted := CountedStore(store._folder))
    newest = await anext(replay.newest_of_stream(db, log_id, "device/d1", **span))
    assert newest.start == 900
    assert [position for position, _, _ in newest.entries] == list(range(999, 899, -1))
    assert counted.reads == 1


@in_folder
async def test_a_file_that_was_brought_back_is_read_again(
    *,
    db: Database,
    recorder: Recorder,
    log_id: int,
    publisher: Publisher,
    archiver: Archiver,
    store: FolderStore,
) -> None:
    await archived(recorder, log_id, publisher, archiver)
    before = await free_texts.entry_and_text(db, log_id, 300)
    await prune(db, store)
    connect(db, store)
    file = store._folder / folder_of(ACME) / "tile/entries/001"
    whole = file.read_bytes()
    for wrong in (whole[:-1], whole.replace(b"d1", b"d2"), b"\x00\x01\xff" * 256):
        file.write_bytes(wrong)
        with pytest.raises(EntriesAway, match="bring the archive's file back"):
            await free_texts.entry_and_text(db, log_id, 300)
    file.write_bytes(whole)
    assert await free_texts.entry_and_text(db, log_id, 300) == before
    assert isinstance(db.archive, ArchivedEntries)
    assert db.archive._bundles.currsize == len(whole) <= entries.CACHE_BYTES_MAX

"""The archive holds what was signed and nothing else, and never gets shorter."""

import asyncio
import shutil
from pathlib import Path

import pytest

from firmtrail.archive import archiver as archiving
from firmtrail.archive import positions
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.layout import ArchiveSource, folder_of
from firmtrail.archive.positions import ArchiveWork
from firmtrail.archive.stores import ArchiveStore, store_at
from firmtrail.audit import source as tlog
from firmtrail.audit.source import CHECKPOINT
from firmtrail.commands.continue_log import continue_log
from firmtrail.database.database import Database
from firmtrail.eventstore import tree
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.contract.archiving import (
    KEY_LINE,
    SECRET,
    archiver,
    audited,
    begin,
    grow,
    location,
    new_archiver,
    publisher,
    store,
)
from tests.databases import new_log, read, write
from tests.publishing import ACME

__all__ = ["archiver", "location", "publisher", "store"]  # fixtures


@pytest.mark.parametrize("events", [256, 300, 256 * 20 + 3])
async def test_the_archive_is_a_whole_log_of_the_full_bundles(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    events: int,
) -> None:
    await begin(recorder, log_id, publisher, events)
    await archiver.following.catch_up()
    size, findings = await audited(store)
    assert (size, findings.kept) == (events // 256 * 256, [])
    source = ArchiveSource(store, folder_of(ACME))
    there = await tlog.published(source)
    assert there.checkpoint.root == await tree.root(db, log_id, size)
    assert there.key == KEY_LINE
    assert await positions.waiting(db, "here") == []
    assert await positions.lag(db, "here") == (0, 0)


async def test_less_than_a_bundle_is_not_archived(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await begin(recorder, log_id, publisher, 255)
    await archiver.following.catch_up()
    assert await store.get(f"{folder_of(ACME)}/{CHECKPOINT}") is None
    await grow(recorder, log_id, publisher, 1)
    assert await positions.lag(db, "here") == (1, 256)
    await archiver.following.catch_up()
    assert (await audited(store))[0] == 256


async def test_the_archive_grows_and_continues_what_an_auditor_saw(
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await begin(recorder, log_id, publisher, 10)
    earlier = None
    for events in (250, 600, 5_000, 1):
        await grow(recorder, log_id, publisher, events)
        await archiver.following.catch_up()
        _, findings = await audited(store, earlier=earlier)
        assert findings.kept == []
        source = ArchiveSource(store, folder_of(ACME))
        earlier = (await tlog.published(source)).checkpoint


async def test_no_free_text_gets_into_the_archive(
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    tmp_path: Path,
    db: Database,
) -> None:
    await begin(recorder, log_id, publisher, 600)
    await new_archiver(db, publisher, store_at(tmp_path / "a")).following.catch_up()
    salts = [salt for [salt] in await read(db, "SELECT salt FROM texts LIMIT 500")]
    assert salts
    content = b"".join(path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert b'"detail"' in content  # its salted hash
    assert SECRET.encode() not in content
    assert not [salt for salt in salts if salt.encode() in content]


async def test_a_closed_log_is_archived_to_its_end(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await write(db, "INSERT INTO projects VALUES ('acme', $1, 0)", log_id)
    await begin(recorder, log_id, publisher, 300)
    await archiver.following.catch_up()
    assert (await audited(store))[0] == 256
    last = await publisher.served.newest_known(ACME)
    assert last is not None
    await continue_log(db, log_id, checkpoint=last.note, above=0, actor="system")
    [[newest]] = await read(db, "SELECT max(log_id) FROM log_heads")
    await publisher.following.catch_up()
    await archiver.following.catch_up()
    size, findings = await audited(store)
    assert (size, findings.kept) == (300, [])
    assert newest != log_id
    await archiver.following.catch_up()
    assert await positions.waiting(db, "here") == []


async def test_a_step_that_was_interrupted_anywhere_is_repeated(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(archiving, "STEP_BUNDLES", 2)
    await begin(recorder, log_id, publisher, 256 * 5)
    writes = 0
    while writes < 40:
        broken = Breaking(store, after=writes)
        following = Archiver(db, publisher, broken, location="here", is_alone=True).following
        await following.round()
        if await store.get(f"{folder_of(ACME)}/{CHECKPOINT}") is not None:
            assert (await audited(store))[1].kept == []
        if following.problem is None:
            break
        assert following.problem == "no space"
        writes += 1
    assert writes > 2
    size, findings = await audited(store)
    assert (size, findings.kept) == (256 * 5, [])


class Breaking:
    """Fails all writes after some of them, as a full disk does."""

    def __init__(self, store: ArchiveStore, after: int) -> None:
        self._store = store
        self._left = after
        self.get, self.check = store.get, store.check

    def _count(self) -> None:
        if self._left == 0:
            raise OSError("no space")
        self._left -= 1

    async def add(self, name: str, content: bytes) -> None:
        self._count()
        await self._store.add(name, content)

    async def replace(self, name: str, before: bytes | None, after: bytes) -> bool:
        self._count()
        return await self._store.replace(name, before, after)


async def test_a_round_looks_through_all_logs_once(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next steps of a round ask only for the logs that had something to archive."""
    monkeypatch.setattr(archiving, "STEP_BUNDLES", 1)
    asked: list[int] = []
    original = positions.waiting

    async def counted(db: Database, location: str, *, after: int = 0) -> list[ArchiveWork]:
        asked.append(after)
        return await original(db, location, after=after)

    monkeypatch.setattr(positions, "waiting", counted)
    await new_log(db, "zenith")
    await begin(recorder, log_id, publisher, 256 * 4)
    await archiver.following.catch_up()
    assert (await audited(store))[0] == 256 * 4
    assert asked == [0, log_id]


async def test_several_servers_archive_one_log(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    store: ArchiveStore,
) -> None:
    servers = [new_archiver(db, publisher, store) for _ in range(4)]
    await begin(recorder, log_id, publisher, 10)
    for _ in range(3):
        await grow(recorder, log_id, publisher, 700)
        await asyncio.gather(*(each.following.round() for each in servers))
    await servers[0].following.catch_up()
    size, findings = await audited(store)
    assert (size, findings.kept) == (2110 // 256 * 256, [])


async def test_a_lease_of_another_process_is_respected_until_it_ends(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await begin(recorder, log_id, publisher, 300)
    [work] = await positions.waiting(db, "here")
    assert await positions.take(db, work, ("here", "other"), is_alone=False)
    await archiver.following.catch_up()
    assert await store.get(f"{folder_of(ACME)}/{CHECKPOINT}") is None
    await positions.release(db, work, ("here", "other"))
    await archiver.following.catch_up()
    assert (await audited(store))[0] == 256


async def test_another_location_gets_all_of_the_log(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    tmp_path: Path,
) -> None:
    await begin(recorder, log_id, publisher, 600)
    await archiver.following.catch_up()
    other = store_at(tmp_path / "other")
    there = Archiver(db, publisher, other, location="there", is_alone=False)
    await there.following.catch_up()
    assert (await audited(other))[0] == 512


async def test_an_archive_that_was_emptied_is_filled_again_from_the_log(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "archive"
    archiver = new_archiver(db, publisher, store_at(folder))
    await begin(recorder, log_id, publisher, 600)
    await archiver.following.catch_up()
    shutil.rmtree(folder)
    await grow(recorder, log_id, publisher, 256)
    await archiver.following.catch_up()
    size, findings = await audited(store_at(folder))
    assert (size, findings.kept) == (768, [])

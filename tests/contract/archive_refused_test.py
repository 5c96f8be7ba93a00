"""An archive that differs from the log is found by an audit, and never overwritten."""

from collections.abc import Callable
from typing import Any

import pytest

from firmtrail import config
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.layout import ArchiveSource, folder_of
from firmtrail.archive.stores import ArchiveRefused, ArchiveStore
from firmtrail.audit import source as tlog
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import CHECKPOINT, KEY
from firmtrail.audit.verify import ServedLog, verify
from firmtrail.commands.continue_log import continue_log
from firmtrail.database.database import Database
from firmtrail.eventstore import tree
from firmtrail.eventstore.merkle import TILE_WIDTH
from firmtrail.eventstore.proofs import TreeHead
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.contract.archiving import (
    KEY_LINE,
    archiver,
    audited,
    begin,
    close,
    grow,
    location,
    new_archiver,
    publisher,
    put_checkpoint,
    store,
)
from tests.databases import new_log, read
from tests.publishing import ACME, SIGNER

__all__ = ["archiver", "location", "publisher", "store"]  # fixtures


type Harm = Callable[[dict[str, bytes]], None]


def other_bundle(files: dict[str, bytes]) -> None:
    name = "tile/entries/000"
    files[name] = files[name].replace(b'"1.0.0"', b'"6.6.6"', 1)


def no_tile(files: dict[str, bytes]) -> None:
    del files["tile/0/001"]


def no_bundle(files: dict[str, bytes]) -> None:
    del files["tile/entries/001"]


def other_tile(files: dict[str, bytes]) -> None:
    files["tile/0/001"] = files["tile/0/001"][::-1]


def shorter(files: dict[str, bytes]) -> None:
    files["tile/entries/001"] = files["tile/entries/001"][:-1]


HARMS: dict[str, tuple[Harm, str]] = {
    "an entry is another": (other_bundle, "position 1"),
    "a tile is missing": (no_tile, "tile/0/001"),
    "a bundle is missing": (no_bundle, "tile/entries/001"),
    "a tile is another": (other_tile, "position 256"),
    "a bundle ends within an entry": (shorter, "tile/entries/001"),
}


class Files:
    """Serves files from memory: a `Source`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    async def get(self, path: str) -> bytes:
        if path not in self.files:
            raise tlog.Missing(path)
        return self.files[path]


async def test_an_audit_of_the_archive_finds_what_was_changed_in_it(
    log_id: int, recorder: Recorder, publisher: Publisher, archiver: Archiver, store: ArchiveStore
) -> None:
    await begin(recorder, log_id, publisher, 600)
    await archiver.following.catch_up()
    names = [CHECKPOINT, KEY, "tile/1/000.p/2"]
    names += [f"tile/{level}/00{n}" for level in ("0", "entries") for n in range(2)]
    source = ArchiveSource(store, folder_of(ACME))
    files = {name: await source.get(name) for name in names}
    for harm, (change, where) in HARMS.items():
        copy = Files(dict(files))
        change(copy.files)
        findings = Findings()
        there = (await tlog.published(copy, [KEY_LINE])).checkpoint
        await verify(ServedLog(copy, there), findings, lambda _: None)
        assert where in {each.where for each in findings.kept}, harm


@pytest.mark.parametrize("events", [256, 600])
async def test_an_archive_with_another_checkpoint_is_refused_and_left_as_it_is(
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    events: int,
) -> None:
    """Another history that the same key signed: a database was rolled back, and nobody noticed."""
    await begin(recorder, log_id, publisher, events)
    forked = SIGNER.sign(ACME, TreeHead(256, bytes(32))).note.encode()
    name = f"{folder_of(ACME)}/{CHECKPOINT}"
    await store.replace(name, None, forked)
    await archiver.following.round()
    assert archiver.following.problem is not None
    assert "log acme/1: checkpoint: " in archiver.following.problem
    assert await store.get(name) == forked
    assert await store.get(f"{folder_of(ACME)}/tile/entries/001") is None


@pytest.mark.parametrize("is_closed", [False, True])
@pytest.mark.parametrize("size", [100, 512, 600, 2560])
async def test_a_forked_checkpoint_of_any_size_is_never_overwritten(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    size: int,
    is_closed: bool,
) -> None:
    await begin(recorder, log_id, publisher, 600)
    if is_closed:
        await close(db, log_id, publisher)
    forked = await put_checkpoint(store, size)
    for _ in range(2):
        await archiver.following.round()
        assert await store.get(f"{folder_of(ACME)}/{CHECKPOINT}") == forked
        assert await store.get(f"{folder_of(ACME)}/tile/entries/001") is None


@pytest.mark.parametrize(("size", "after"), [(100, 512), (256, 512), (512, 512), (600, 600)])
async def test_a_checkpoint_of_this_log_is_continued_whatever_its_size_is(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    size: int,
    after: int,
) -> None:
    await begin(recorder, log_id, publisher, 600)
    note = await put_checkpoint(store, size, await tree.root(db, log_id, size))
    await archiver.following.round()
    assert archiver.following.problem is None
    there = await store.get(f"{folder_of(ACME)}/{CHECKPOINT}")
    assert there is not None
    assert int(there.split(b"\n")[1]) == after
    assert (there == note) == (size == after)


@pytest.mark.parametrize("content", [b"", b"no checkpoint\n"])
async def test_an_archive_whose_checkpoint_is_none_is_refused(
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    content: bytes,
) -> None:
    await begin(recorder, log_id, publisher, 256)
    await store.replace(f"{folder_of(ACME)}/{CHECKPOINT}", None, content)
    await archiver.following.round()
    assert archiver.following.problem is not None


async def test_an_archive_that_has_more_than_is_published_is_refused(
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await begin(recorder, log_id, publisher, 256)
    longer = SIGNER.sign(ACME, TreeHead(2560, bytes(32))).note.encode()
    await store.replace(f"{folder_of(ACME)}/{CHECKPOINT}", None, longer)
    await archiver.following.round()
    assert archiver.following.problem == (
        "log acme/1: the archive has 2560 entries, more than are published"
    )


@pytest.mark.parametrize("size", [256, 2560])
async def test_a_closed_log_that_the_archive_does_not_agree_with_is_given_up(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    size: int,
) -> None:
    """After a database was lost in part, the archive is right, and the newer log is archived."""
    await begin(recorder, log_id, publisher, 300)
    other = SIGNER.sign(ACME, TreeHead(size, bytes(32))).note.encode()
    name = f"{folder_of(ACME)}/{CHECKPOINT}"
    await store.replace(name, None, other)
    await archiver.following.round()
    assert archiver.following.problem is not None
    last = await publisher.served.newest_known(ACME)
    assert last is not None
    await continue_log(db, log_id, checkpoint=last.note, above=0, actor="system")
    [[newest]] = await read(db, "SELECT max(log_id) FROM log_heads")
    await grow(recorder, newest, publisher, 256)
    for _ in range(2):
        await archiver.following.round()
        assert archiver.following.problem is None
    assert await store.get(name) == other
    assert (await audited(store, LogName("acme", 2)))[0] == 256


async def test_a_tile_with_another_content_is_not_overwritten(
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await begin(recorder, log_id, publisher, 300)
    name = f"{folder_of(ACME)}/tile/entries/000"
    await store.add(name, b"other")
    await archiver.following.round()
    assert archiver.following.problem is not None
    assert "has another content than the log" in archiver.following.problem
    assert await store.get(name) == b"other"
    assert await store.get(f"{folder_of(ACME)}/{CHECKPOINT}") is None


async def test_one_log_that_is_refused_keeps_no_other_from_the_archive(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    other = await new_log(db, "zenith")
    await begin(recorder, log_id, publisher, 300)
    await begin(recorder, other, publisher, 300)
    await store.add(f"{folder_of(ACME)}/tile/entries/000", b"other")
    await archiver.following.round()
    assert list(archiver.refused) == [ACME]
    assert (await audited(store, LogName("zenith", 1)))[0] == 256


async def test_nothing_is_archived_of_entries_that_are_not_what_was_signed(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await begin(recorder, log_id, publisher, 300)
    original = tree.bundle

    async def altered(db: Any, log_id: int, number: int, width: int) -> bytes:
        return (await original(db, log_id, number, width)).replace(b'"1.0.0"', b'"6.6.6"', 1)

    monkeypatch.setattr(tree, "bundle", altered)
    archiver = new_archiver(db, publisher, store)
    await archiver.following.round()
    assert archiver.following.problem is not None
    assert await store.get(f"{folder_of(ACME)}/tile/entries/000") is None


async def test_a_store_is_checked_and_writes_no_file_twice(store: ArchiveStore) -> None:
    await store.check()
    await store.check()
    await store.add("a/b", b"one")
    await store.add("a/b", b"one")
    with pytest.raises(ArchiveRefused):
        await store.add("a/b", b"two")
    assert await store.get("a/b") == b"one"
    assert await store.get("a/c") is None
    assert not await store.replace("a/c", b"x", b"y")
    assert await store.replace("a/c", None, b"x")
    assert not await store.replace("a/c", None, b"y")
    assert await store.replace("a/c", b"x", b"y")
    assert await store.get("a/c") == b"y"
    assert TILE_WIDTH == 256


async def test_a_store_is_named_by_its_location(
    store: ArchiveStore, location: config.StorageLocation
) -> None:
    named = location.url if isinstance(location, config.BucketUrl) else str(location)
    assert str(store) == named
    assert str(ArchiveSource(store, "acme/logs/1")) == f"{named}/acme/logs/1"

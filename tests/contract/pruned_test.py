"""Entries leave the database once the archive has them; every read still returns them."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from firmtrail.access.hashing import Hasher
from firmtrail.archive import prune as pruning
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.layout import folder_of
from firmtrail.archive.prune import PruneScope
from firmtrail.archive.pruned import KNOWS_STUBS, newest_stubs
from firmtrail.archive.stores import ArchiveRefused, ArchiveStore, FolderStore
from firmtrail.commands import access as commands
from firmtrail.commands import demo
from firmtrail.database import stubs
from firmtrail.database.database import AppendRefused, Database, Unavailable
from firmtrail.database.sqlite import SQLite
from firmtrail.database.stubs import NoArchive
from firmtrail.eventstore import free_texts, log, tree
from firmtrail.moving.logs import copy
from firmtrail.projections import fold
from firmtrail.publishing.publisher import Publisher
from firmtrail.rebuilding import generations
from firmtrail.rebuilding.rebuild import rebuild
from firmtrail.recording.recorder import Recorder
from tests.contract import steered_log
from tests.contract.archiving import (
    SECRET,
    archiver,
    audited,
    begin,
    close,
    grow,
    in_folder,
    location,
    publisher,
    store,
)
from tests.contract.moving import nothing, other_database
from tests.contract.pruning import (
    EVENTS,
    PRUNED,
    archived,
    connect,
    everything,
    nothing_is_kept,
    proofs,
    prune,
    stubs_of,
    wanted,
)
from tests.databases import opened, read, write
from tests.fleet import receipts, report
from tests.postgres_server import PostgresServer
from tests.publishing import ACME
from tests.replay import differences

__all__ = ["archiver", "location", "nothing_is_kept", "publisher", "store"]  # fixtures


@pytest.fixture
async def full(recorder: Recorder, log_id: int, publisher: Publisher, archiver: Archiver) -> int:
    """A log whose full bundles are archived."""
    await archived(recorder, log_id, publisher, archiver)
    return log_id


async def test_everything_reads_as_before_from_the_archive(
    db: Database, full: int, store: ArchiveStore
) -> None:
    before = await everything(db, full, EVENTS), await proofs(db, full, EVENTS)
    steps = await prune(db, store)
    assert await stubs_of(db, full) == list(range(PRUNED))
    assert sum(step.entries for step in steps) == PRUNED
    assert all(step.bytes > 0 for step in steps)
    connect(db, store)
    assert (await everything(db, full, EVENTS), await proofs(db, full, EVENTS)) == before


async def test_a_moment_a_snapshot_and_a_transaction_read_from_the_archive(
    db: Database, full: int, store: ArchiveStore
) -> None:
    page = log.page(full, 0, EVENTS, EVENTS)
    before = [tuple(row) for row in await db.read(page)]
    await prune(db, store)
    connect(db, store)
    async with db.moment() as reader:
        assert [tuple(row) for row in await reader.read(page)] == before
    async with db.snapshot() as reader:
        assert [tuple(row) for row in await reader.read(page)] == before
    async with db.transaction() as tx:
        assert [[tuple(row) for row in rows] for rows in await tx.run(page)] == [before]


async def test_without_the_archive_reads_say_so_and_proofs_stay(
    db: Database, full: int, store: ArchiveStore
) -> None:
    before = await proofs(db, full, EVENTS)
    await prune(db, store)
    with pytest.raises(NoArchive, match="Name the archive with --archive"):
        await everything(db, full, EVENTS)
    assert await proofs(db, full, EVENTS) == before
    newest = [page async for page in log.read(db, full, PRUNED, EVENTS)]
    assert len(newest[0]) == EVENTS - PRUNED


async def test_a_step_is_whole_and_the_next_run_continues(
    db: Database, full: int, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "STEP_BUNDLES", 1)
    await db.allow_pruning()
    async with contextlib.aclosing(pruning.prune(db, store, wanted(), is_dry=False)) as steps:
        assert (await anext(steps)).size == 256
    assert await stubs_of(db, full) == list(range(256))
    assert [each.position for each in await newest_stubs(db)] == [255]
    assert [step.size for step in await prune(db, store)] == [512, 768, 1024]
    assert [each.position for each in await newest_stubs(db)] == [PRUNED - 1]
    assert await prune(db, store) == []
    [[size, entries]] = await read(db, "SELECT size, entries FROM pruned LIMIT 1")
    assert (size, entries) == (PRUNED, PRUNED)


async def test_of_two_processes_one_says_that_the_other_prunes(
    db: Database, full: int, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "STEP_BUNDLES", 1)
    await db.allow_pruning()
    async with contextlib.aclosing(pruning.prune(db, store, wanted(), is_dry=False)) as first:
        await anext(first)
        assert await prune(db, store)
        with pytest.raises(Unavailable, match="Another process prunes the log acme/1"):
            await anext(first)
    assert await stubs_of(db, full) == list(range(PRUNED))


async def test_only_what_is_old_archived_asked_for_and_not_recent_is_pruned(
    db: Database, full: int, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    [[at_ms]] = await read(db, "SELECT max(recorded_at_ms) FROM events WHERE position < $1", 10)
    assert await prune(db, store, PruneScope("here", at_ms)) == []
    assert await prune(db, store, PruneScope("elsewhere", wanted().before_ms)) == []
    assert await prune(db, store, wanted("other")) == []
    monkeypatch.setattr(pruning, "KEPT_ENTRIES", 600)
    await prune(db, store, wanted("acme"))
    assert await stubs_of(db, full) == list(range((EVENTS - 600) // 256 * 256))


async def test_a_dry_run_compares_and_changes_nothing(
    db: Database, full: int, store: ArchiveStore
) -> None:
    await write(db, "UPDATE instance SET compatible_from = '0005'")
    steps = [step async for step in pruning.prune(db, store, wanted(), is_dry=True)]
    assert sum(step.entries for step in steps) == PRUNED
    assert await stubs_of(db, full) == []
    [[since]] = await read(db, "SELECT compatible_from FROM instance LIMIT 2")
    assert since == "0005"


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("tile/entries/001", b"\x00\x02{}", "is not what the database has"),
        ("tile/entries/001", None, "is not what the database has"),
        ("checkpoint", None, "has no checkpoint"),
    ],
)
@in_folder
async def test_an_archive_that_lacks_something_stops_the_command(
    *,
    db: Database,
    full: int,
    store: FolderStore,
    path: str,
    content: bytes | None,
    reason: str,
) -> None:
    file = store._folder / folder_of(ACME) / path
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ArchiveRefused, match=reason):
        await prune(db, store)
    assert await stubs_of(db, full) == []


async def test_a_log_that_grows_in_the_archive_meanwhile_is_pruned(
    *,
    db: Database,
    full: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The archive's checkpoint is newer than the size with which the command listed the log."""
    get = store.get

    async def grown(name: str) -> bytes | None:
        monkeypatch.setattr(store, "get", get)
        await grow(recorder, full, publisher, 300)
        await archiver.following.catch_up()
        return await get(name)

    monkeypatch.setattr(store, "get", grown)
    await prune(db, store)
    assert await stubs_of(db, full) == list(range(PRUNED))


async def test_an_archive_that_does_not_answer_stops_the_command(
    db: Database, full: int, store: ArchiveStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_name: str) -> bytes | None:
        return await asyncio.Event().wait() and None

    monkeypatch.setattr(pruning, "FILES_S", 0.1)
    monkeypatch.setattr(store, "get", silent)
    with pytest.raises(Unavailable, match="did not answer within"):
        await prune(db, store)
    assert await stubs_of(db, full) == []


async def test_entries_of_other_streams_stay(
    *,
    db: Database,
    full: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await steered_log.release(recorder, full, "3.0.0", "4.0.0")
    await grow(recorder, full, publisher, 300)
    await archiver.following.catch_up()
    await prune(db, store)
    stop = (EVENTS + 302) // 256 * 256
    assert await stubs_of(db, full) == [*range(EVENTS), *range(EVENTS + 2, stop)]
    connect(db, store)
    assert (await everything(db, full, stop))["pages"]


async def test_views_are_rebuilt_and_replayed_from_the_archive(
    db: Database, full: int, store: ArchiveStore
) -> None:
    await prune(db, store)
    build = await db.play(generations.claim, full, frozenset(fold.REVISIONS), "me", 3_000)
    with pytest.raises(NoArchive):
        _ = [step async for step in rebuild(db, build)]
    connect(db, store)
    steps = [step async for step in rebuild(db, build)]
    assert steps[-1].is_live
    assert await differences(db, full) == []


async def test_a_pruned_log_is_continued_with_the_archive(
    db: Database, full: int, publisher: Publisher, store: ArchiveStore, recorder: Recorder
) -> None:
    [first] = await receipts(recorder, full, report(report_id="at the end"))
    await prune(db, store)
    with pytest.raises(NoArchive):
        await close(db, full, publisher)
    connect(db, store)
    await close(db, full, publisher)
    newest = (await log.newest(db, "acme"))[0]
    assert newest.number == 2
    assert len([row async for page in log.read(db, newest.log_id, -100, 0) for row in page]) == 100
    [again] = await receipts(recorder, newest.log_id, report(report_id="at the end"))
    assert (again.duplicate, again.position) == (True, first.position)
    assert await differences(db, newest.log_id) == []


async def test_the_archive_grows_after_a_pruning(
    *,
    db: Database,
    full: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: ArchiveStore,
) -> None:
    await prune(db, store)
    await grow(recorder, full, publisher, 300)
    await archiver.following.catch_up()
    size, findings = await audited(store)
    assert (size, findings.kept) == ((EVENTS + 300) // 256 * 256, [])
    await prune(db, store)
    assert len(await stubs_of(db, full)) == size


async def test_an_erased_text_of_a_pruned_entry_is_gone(
    db: Database, full: int, recorder: Recorder, store: ArchiveStore
) -> None:
    await prune(db, store)
    head = await log.head(db, full)
    await recorder.act(full, commands.erase_text(head, 5, actor="user/u"))
    connect(db, store)
    entry, text = await free_texts.entry_and_text(db, full, 5)
    assert text is None
    assert SECRET not in entry


async def test_the_first_pruning_keeps_older_code_away(
    db: Database, full: int, store: ArchiveStore
) -> None:
    await write(db, "UPDATE instance SET compatible_from = '0005'")
    await prune(db, store, wanted("other"))
    [[before]] = await read(db, "SELECT compatible_from FROM instance LIMIT 2")
    await prune(db, store)
    [[since]] = await read(db, "SELECT compatible_from FROM instance LIMIT 2")
    assert (before, since) == ("0005", KNOWS_STUBS)


UPDATE = "UPDATE events SET entry = '{}' WHERE position = {}"


async def test_the_guard_lets_nothing_else_in(db: Database, full: int) -> None:
    texts = [text async for page in log.read(db, full, 0, EVENTS) for _, _, text in page]
    await write(
        db,
        "INSERT INTO pruned (log_id, size, entries, bytes, pruned_at_ms) VALUES ($1, 600, 0, 0, 0)",
        full,
    )
    await db.allow_pruning()
    right = [str(stubs.of(full, position, text)) for position, text in enumerate(texts)]
    refused = [
        UPDATE.format(right[5], 6),
        UPDATE.format(right[5].replace("#", "##"), 5),
        UPDATE.format("{}", 5),
        UPDATE.format(right[700], 700),
        UPDATE.format(right[EVENTS - 1], EVENTS - 1),
        f"UPDATE events SET entry = '{right[5]}', event_id = 'x' WHERE position = 5",
        f"UPDATE events SET entry = '{right[5]}', recorded_at_ms = 1 WHERE position = 5",
        f"UPDATE events SET entry = '{right[5]}', position = 90000 WHERE position = 5",
        "DELETE FROM events WHERE position = 5",
    ]
    for text in refused:
        with pytest.raises(AppendRefused, match="append-only"):
            await write(db, text)
    assert await stubs_of(db, full) == []
    await write(db, UPDATE.format(right[5], 5))
    for text in (UPDATE.format(right[5], 5), UPDATE.format("{}", 5)):
        with pytest.raises(AppendRefused, match="append-only"):
            await write(db, text)
    assert await stubs_of(db, full) == [5]


async def test_a_file_is_pruned_by_an_allowed_connection_and_a_server_database_by_its_owner(
    db: Database, full: int, store: ArchiveStore
) -> None:
    refused = pytest.raises(sqlite3.OperationalError, match="no such function: leaf_hash")
    with refused if isinstance(db, SQLite) else contextlib.nullcontext():
        _ = [step async for step in pruning.prune(db, store, wanted(), is_dry=False)]
    assert len(await stubs_of(db, full)) == (0 if isinstance(db, SQLite) else PRUNED)


async def test_a_pruned_log_is_moved_byte_for_byte_with_the_archive(
    *,
    db: Database,
    full: int,
    store: ArchiveStore,
    back_end: PostgresServer | None,
    tmp_path: Path,
) -> None:
    head, whole = await log.head(db, full), log.page(full, 0, EVENTS, EVENTS)
    before = [tuple(row) for row in await db.read(whole)]
    await prune(db, store)
    async with other_database(back_end, tmp_path) as url, opened(url) as target:
        with pytest.raises(NoArchive):
            await copy(db, target, head, nothing)
        connect(db, store)
        copied = await copy(db, target, head, nothing)
        there = await target.read(log.page(copied, 0, EVENTS, EVENTS))
        assert [tuple(row) for row in there] == before
        assert await tree.root(target, copied, EVENTS) == await tree.root(db, full, EVENTS)


async def test_the_demo_knows_its_logs_after_a_pruning(
    db: Database, publisher: Publisher, archiver: Archiver, store: ArchiveStore, recorder: Recorder
) -> None:
    await demo.populate(db, Hasher(), "acme", None)
    [newest] = await log.newest(db, "acme")
    await begin(recorder, newest.log_id, publisher, 300)
    await archiver.following.catch_up()
    await prune(db, store)
    with pytest.raises(NoArchive):
        await demo.foreign(db, "acme")
    connect(db, store)
    assert await demo.foreign(db, "acme") is None

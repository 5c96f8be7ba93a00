"""An audit of a pruned log needs the archive, and finds any stub that does not belong there."""

from pathlib import Path

import pytest

from firmtrail import config
from firmtrail.archive import prune as pruning
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.layout import folder_of
from firmtrail.archive.stores import ArchiveStore, FolderStore
from firmtrail.audit import database
from firmtrail.audit import stubs as audit_stubs
from firmtrail.audit.finding import Findings
from firmtrail.cli import audit_database
from firmtrail.cli.audit_database import AuditScope
from firmtrail.database import stubs
from firmtrail.database.database import Database, Reader
from firmtrail.database.stubs import NoArchive
from firmtrail.eventstore import log
from firmtrail.eventstore.pruned import pruned_size
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.contract.archiving import archiver, publisher
from tests.contract.pruning import (
    EVENTS,
    PRUNED,
    archived,
    nothing_is_kept,
    prune,
    stubs_of,
    wanted,
)
from tests.databases import write
from tests.losses import owned
from tests.publishing import ACME

__all__ = ["archiver", "nothing_is_kept", "publisher"]  # fixtures


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def store(location: Path) -> ArchiveStore:
    return FolderStore(location)


async def found(url: str, location: Path | None, *, replay: bool = False) -> list[tuple[str, str]]:
    findings = Findings()
    scope = AuditScope(config.archived(config.database(url), location), "acme", None)
    if replay:
        await audit_database.replay(scope, findings)
    else:
        await audit_database.verify(scope, None, None, findings)
    return [(each.where, each.what) for each in findings.kept]


@pytest.fixture
async def whole(
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
) -> list[str]:
    """The texts of a log that is archived."""
    await write(db, "INSERT INTO projects (project, log_id, created_at_ms) VALUES ('acme', 1, 0)")
    await archived(recorder, log_id, publisher, archiver)
    return [text async for page in log.read(db, log_id, 0, EVENTS) for _, _, text in page]


@pytest.fixture
async def pruned(db: Database, whole: list[str], store: ArchiveStore) -> list[str]:
    """The texts of a log that was pruned."""
    await prune(db, store)
    return whole


@pytest.mark.usefixtures("whole")
async def test_a_log_may_be_pruned_while_it_is_audited(
    *,
    db: Database,
    database_url: str,
    store: ArchiveStore,
    location: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first bundle is pruned before entries are read, and the others after it."""
    monkeypatch.setattr(pruning, "STEP_BUNDLES", 1)
    await db.allow_pruning()
    steps = pruning.prune(db, store, wanted(), is_dry=False)

    async def then_pruned(reader: Reader, log_id: int) -> int:
        size = await pruned_size(reader, log_id)
        await anext(steps)
        return size

    async def pruned_before(reader: Reader, log_id: int) -> int:
        _ = [step async for step in steps]
        return await pruned_size(reader, log_id)

    monkeypatch.setattr(database, "pruned_size", then_pruned)
    monkeypatch.setattr(audit_stubs, "pruned_size", pruned_before)
    assert await found(database_url, location) == []
    assert len(await stubs_of(db, 1)) == PRUNED


@pytest.mark.usefixtures("pruned")
async def test_a_pruned_log_is_verified_and_replayed_from_the_archive(
    database_url: str, location: Path
) -> None:
    assert await found(database_url, location) == []
    assert await found(database_url, location, replay=True) == []


@pytest.mark.usefixtures("pruned")
async def test_without_the_archive_the_stubs_are_found_and_nothing_else(database_url: str) -> None:
    what = "is only in the archive: give --archive before the command"
    assert await found(database_url, None) == [(f"positions 0 to {PRUNED - 1}", what)]
    with pytest.raises(NoArchive):
        await found(database_url, None, replay=True)


async def change(url: str, position: int, entry: str) -> None:
    async with owned(url) as run:
        quoted = entry.replace("'", "''")
        await run(f"UPDATE events SET entry = '{quoted}' WHERE position = {position}")


async def test_a_restored_text_is_found(
    database_url: str, pruned: list[str], location: Path
) -> None:
    await change(database_url, 5, pruned[5])
    [finding] = await found(database_url, location)
    assert finding == ("position 5", "its text is in the database, although it was pruned")


async def test_a_stub_where_nothing_was_pruned_is_found(
    database_url: str, log_id: int, pruned: list[str], location: Path
) -> None:
    position = EVENTS - 1
    await change(database_url, position, str(stubs.of(log_id, position, pruned[position])))
    assert await found(database_url, location) == [
        (f"position {position}", "a stub stands for it, although it was not pruned"),
        (f"position {position}", "was pruned, and the archive does not have it"),
    ]


async def test_a_stub_of_another_place_is_found(
    database_url: str, log_id: int, pruned: list[str], location: Path
) -> None:
    await change(database_url, 5, str(stubs.of(log_id, 6, pruned[6])))
    findings = await found(database_url, location)
    assert any(where == "position 5" and "names another place" in what for where, what in findings)
    assert any("their hash differs from the stored subtree" in what for _, what in findings)


async def test_a_stub_with_another_hash_is_found(
    database_url: str, log_id: int, pruned: list[str], location: Path
) -> None:
    assert pruned
    await change(database_url, 5, str(stubs.of(log_id, 5, "{}")))
    findings = await found(database_url, location)
    assert ("position 5", "the archive's entry does not have the hash of its stub") in findings
    assert any("their hash differs from the stored subtree" in what for _, what in findings)


HASH = "00" * 32


@pytest.mark.parametrize(
    "stub",
    [
        f"#{2**63 - 1}/5/{HASH}",
        f"#{'9' * 19}/5/{HASH}",
        f"#1/{2**63 - 1}/{HASH}",
        f"#1/{'9' * 19}/{HASH}",
        f"#0/0/{HASH}",
        f"#1/{'9' * 18}/{HASH}",
    ],
)
async def test_a_stub_of_an_impossible_place_is_found(
    *, database_url: str, pruned: list[str], location: Path, stub: str
) -> None:
    assert pruned
    await change(database_url, 5, stub)
    assert "position 5" in {where for where, _ in await found(database_url, location)}


async def test_a_malformed_stub_is_found(
    database_url: str, pruned: list[str], location: Path
) -> None:
    assert pruned
    await change(database_url, 5, "#1/5/ffff")
    findings = await found(database_url, location)
    assert ("position 5", "its text is in the database, although it was pruned") in findings
    assert any("not a Firmtrail event" in what for where, what in findings if where == "position 5")


@pytest.mark.usefixtures("pruned")
async def test_a_file_that_the_archive_lost_is_found(database_url: str, location: Path) -> None:
    (location / folder_of(ACME) / "tile/entries/001").unlink()
    what = "was pruned, and the archive does not have it"
    assert await found(database_url, location) == [("positions 256 to 511", what)]


@pytest.mark.usefixtures("pruned")
async def test_an_entry_that_was_changed_in_the_archive_is_found(
    database_url: str, location: Path
) -> None:
    file = location / folder_of(ACME) / "tile/entries/001"
    file.write_bytes(file.read_bytes().replace(b"1.0.0", b"6.6.6", 1))
    what = "the archive's entry does not have the hash of its stub"
    assert await found(database_url, location) == [("position 256", what)]


@pytest.mark.usefixtures("pruned")
async def test_a_changed_size_of_what_was_pruned_is_found(
    database_url: str, location: Path
) -> None:
    async with owned(database_url) as run:
        await run("UPDATE pruned SET size = 1023")
    assert await found(database_url, location) == [
        ("position 1023", "a stub stands for it, although it was not pruned")
    ]

"""Archives a log for tests: the parts of a server that do it, and an audit of the archive."""

import random
from pathlib import Path

import pytest

from firmtrail import config
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.layout import ArchiveSource, folder_of
from firmtrail.archive.stores import ArchiveStore, store_at
from firmtrail.audit import source as tlog
from firmtrail.audit.finding import Findings
from firmtrail.audit.source import CHECKPOINT
from firmtrail.audit.verify import ServedLog, verify
from firmtrail.commands.continue_log import continue_log
from firmtrail.database.database import Database
from firmtrail.eventstore.proofs import TreeHead
from firmtrail.publishing.checkpoint import Checkpoint, key_line
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.fleet import receipts, register, report
from tests.publishing import ACME, SIGNER, new_publisher
from tests.s3 import BUCKET

SECRET = "the pump leaks"


KEY_LINE = key_line(SIGNER.verifier(ACME))


@pytest.fixture(params=["folder", "bucket"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> config.StorageLocation:
    if request.param == "folder":
        return tmp_path / "archive"
    request.getfixturevalue("s3_client")
    return config.BucketUrl(f"s3://{BUCKET}/archive")


in_folder = pytest.mark.parametrize("location", ["folder"], indirect=True)
"""Lets a test that looks at the archive's files run with a folder alone."""


@pytest.fixture
def store(location: config.StorageLocation) -> ArchiveStore:
    return store_at(location)


@pytest.fixture
def publisher(db: Database, recorder: Recorder, tmp_path: Path) -> Publisher:
    return new_publisher(db, tmp_path / "checkpoints", recorder.minimum_sizes)


@pytest.fixture
def archiver(db: Database, publisher: Publisher, store: ArchiveStore) -> Archiver:
    return new_archiver(db, publisher, store)


def new_archiver(db: Database, publisher: Publisher, store: ArchiveStore) -> Archiver:
    return Archiver(db, publisher, store, location="here", is_alone=False)


async def grow(recorder: Recorder, log_id: int, publisher: Publisher, events: int) -> None:
    reports = (report(report_id=f"{random.random()}", detail=SECRET) for _ in range(events))
    await receipts(recorder, log_id, *reports)
    await publisher.following.catch_up()


async def begin(recorder: Recorder, log_id: int, publisher: Publisher, events: int) -> None:
    await register(recorder, log_id, "d1")
    await grow(recorder, log_id, publisher, events - 1)


async def audited(
    store: ArchiveStore, name: LogName = ACME, earlier: Checkpoint | None = None
) -> tuple[int, Findings]:
    """Verifies a log of the archive; returns its size too."""
    source, findings = ArchiveSource(store, folder_of(name)), Findings()
    keys = [key_line(SIGNER.verifier(name))]
    there = (await tlog.published(source, keys)).checkpoint
    await verify(ServedLog(source, there, earlier), findings, lambda _: None)
    return there.size, findings


OTHER_ROOT = bytes(32)


async def put_checkpoint(store: ArchiveStore, size: int, root: bytes = OTHER_ROOT) -> bytes:
    """Puts a signed checkpoint into the archive, as if that had been archived before."""
    note = SIGNER.sign(ACME, TreeHead(size, root)).note.encode()
    assert await store.replace(f"{folder_of(ACME)}/{CHECKPOINT}", None, note)
    return note


async def close(db: Database, log_id: int, publisher: Publisher) -> None:
    last = await publisher.served.newest_known(ACME)
    assert last is not None
    await continue_log(db, log_id, checkpoint=last.note, above=0, actor="system")

"""A webhook that comes to a pruned entry waits for the archive, and sends nothing twice then."""

import pytest

from firmtrail.archive.archiver import Archiver
from firmtrail.archive.layout import folder_of
from firmtrail.archive.stores import FolderStore
from firmtrail.commands.webhooks import add_webhook
from firmtrail.database.database import Database
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from firmtrail.webhooks import worker
from tests.contract.archiving import archiver, in_folder, location, publisher, store
from tests.contract.moved_webhooks_test import TERMS, one_turn
from tests.contract.pruning import archived, connect, nothing_is_kept, prune
from tests.databases import write
from tests.publishing import ACME

__all__ = ["archiver", "location", "nothing_is_kept", "publisher", "store"]  # fixtures


@in_folder
async def test_what_was_sent_before_the_archive_was_away_is_not_sent_again(
    *,
    db: Database,
    log_id: int,
    recorder: Recorder,
    publisher: Publisher,
    archiver: Archiver,
    store: FolderStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "PAGE_ENTRIES", 256)
    monkeypatch.setattr(worker, "SAVE_S", 60.0)
    monkeypatch.setattr(worker, "IDLE_S", -1.0)
    await archived(recorder, log_id, publisher, archiver)
    adding = "INSERT INTO projects (project, log_id, created_at_ms) VALUES ('acme', $1, 0)"
    await write(db, adding, log_id)
    await recorder.act(log_id, add_webhook(TERMS, actor="system"))
    await write(db, "UPDATE webhooks SET position = 0")
    await prune(db, store)
    connect(db, store)
    file = store._folder / folder_of(ACME) / "tile/entries/002"
    file.rename(file.with_name("away"))
    got, webhook = await one_turn(db, recorder)
    assert [each.position for each in got] == [*range(512)]
    assert (webhook.position, webhook.failures, webhook.last_error) == (512, 0, None)
    file.with_name("away").rename(file)
    await write(db, "UPDATE webhooks SET next_at_ms = 0")
    got, _ = await one_turn(db, recorder)
    assert got[0].position == 512

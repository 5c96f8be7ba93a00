"""Prunes a log for tests, and reads all that can be read of it."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from firmtrail.archive import prune as pruning
from firmtrail.archive.archiver import Archiver
from firmtrail.archive.entries import ArchivedEntries
from firmtrail.archive.prune import PrunedStep, PruneScope
from firmtrail.archive.stores import ArchiveStore
from firmtrail.database.database import Database
from firmtrail.eventstore import free_texts, log, replay, stored_events, tree
from firmtrail.eventstore.log import EntryPage
from firmtrail.eventstore.replay import Part
from firmtrail.publishing.publisher import Publisher
from firmtrail.recording.recorder import Recorder
from tests.contract.archiving import begin
from tests.databases import read

EVENTS = 1_100
PRUNED = 1_024
"""The events in full bundles, of which all but the first few are a device's."""

LATER_MS = 60 * 60 * 1000


def wanted(project: str = "") -> PruneScope:
    """Asks for everything that is archived."""
    return PruneScope("here", int(time.time() * 1000) + LATER_MS, project)


async def archived(
    recorder: Recorder, log_id: int, publisher: Publisher, archiver: Archiver, events: int = EVENTS
) -> None:
    """Fills a log, and archives its full bundles."""
    await begin(recorder, log_id, publisher, events)
    await archiver.following.catch_up()


async def prune(
    db: Database, store: ArchiveStore, asked: PruneScope | None = None
) -> list[PrunedStep]:
    """Prunes with the archive connected, and returns the steps."""
    await db.allow_pruning()
    asked = asked or wanted()
    return [step async for step in pruning.prune(db, store, asked, is_dry=False)]


def connect(db: Database, store: ArchiveStore) -> None:
    db.archive = ArchivedEntries(db, store)


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets all full bundles be pruned; the product keeps the newest 65 536 entries."""
    monkeypatch.setattr(pruning, "KEPT_ENTRIES", 0)


async def stubs_of(db: Database, log_id: int) -> list[int]:
    """Returns the positions that have stubs."""
    text = (
        "SELECT position FROM events WHERE log_id = $1 AND entry LIKE '#%' ORDER BY position + 0 "
        "LIMIT 100000"
    )
    return [position for [position] in await read(db, text, log_id)]


async def everything(db: Database, log_id: int, size: int) -> dict[str, Any]:
    """Reads all entries in each way in which they are read."""
    whole = range(size)
    return {
        "pages": [page async for page in log.read(db, log_id, 0, size)],
        "stream": await _all(replay.read_stream(db, log_id, "device/d1", start=0, stop=size)),
        "streams": await _all(replay.read_stream(db, log_id, "device/", start=0, stop=size)),
        "newest": await _all(replay.newest_first(db, log_id, 0, size)),
        "newest of stream": await _all(
            replay.newest_of_stream(db, log_id, "device/d1", start=0, stop=size)
        ),
        "rows": await stored_events.page(db, log_id, 0, size, limit=size),
        "text": await free_texts.entry_and_text(db, log_id, size // 3),
        "bundles": [await tree.bundle(db, log_id, number, 256) for number in whole[: size // 256]],
    }


async def _all(pages: AsyncIterator[EntryPage | Part]) -> EntryPage:
    """Returns the entries, however they are divided into pages."""
    found: EntryPage = []
    async for page in pages:
        found += page.entries if isinstance(page, Part) else page
    return found


async def proofs(db: Database, log_id: int, size: int) -> list[Any]:
    """Reads roots, proofs and tiles, none of which needs a text."""
    return [
        await tree.root(db, log_id, size),
        await tree.root(db, log_id, 300),
        await tree.inclusion(db, log_id, 5, size),
        await tree.consistency(db, log_id, 77, size),
        await tree.hash_tile(db, log_id, 0, 1, 256),
    ]

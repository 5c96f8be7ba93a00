"""Appends entries to a log for tests."""

from firmtrail.database.database import Database
from firmtrail.eventstore import log
from tests.fleet import NOON_MS


async def append(db: Database, log_id: int, *texts: str, at_ms: int = NOON_MS) -> log.Head:
    """Appends entries in one transaction; returns the head after them."""
    async with db.transaction() as tx:
        [rows] = await tx.run(log.lock(log_id))
        head = log.head_of(rows)
        entries = [
            log.NewEntry("device/d1", f"s.{position}", text)
            for position, text in enumerate(texts, start=head.size)
        ]
        await tx.run(*log.append(head, entries, [], at_ms))
    return await log.head(db, log_id)

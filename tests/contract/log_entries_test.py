"""A log is read from its end, page by page, and each page looks at a bounded number of entries."""

from typing import cast

import pytest

from firmtrail.database.database import Database, Statement
from firmtrail.events.access import MemberChanged
from firmtrail.events.entry import encode
from firmtrail.events.event import Event, Recorded
from firmtrail.events.fleet import DeviceRestored
from firmtrail.eventstore import log, replay
from firmtrail.eventstore.log import EntryPage
from firmtrail.projections import log_entries
from firmtrail.projections.log_entries import UnknownType, Wanted
from tests.databases import opened
from tests.fleet import NOON_MS

SIZE = 3_000
RARE_EVERY = 1_000
RARE = frozenset({"firmtrail.MemberChanged.v1"})


def entry_at(position: int) -> log.NewEntry:
    """Returns a device's event, or, rarely, one of a member."""
    event: Event = DeviceRestored()
    stream, actor = f"device/d{position % 20}", "user/u_1"
    if position % RARE_EVERY == 7:
        stream, event, actor = f"user/u_{position}", MemberChanged("u", "viewer"), "system"
    recorded = Recorded(position, NOON_MS, stream, f"s.{position}", actor, event)
    return log.NewEntry(stream, recorded.event_id, encode("acme", recorded))


async def fill(db: Database, log_id: int) -> None:
    for start in range(0, SIZE, 500):
        async with db.transaction() as tx:
            [rows] = await tx.run(log.lock(log_id))
            entries = [entry_at(position) for position in range(start, start + 500)]
            await tx.run(*log.append(log.head_of(rows), entries, [], NOON_MS))


async def all_pages(db: Database, wanted: Wanted, limit: int) -> list[EntryPage]:
    pages = []
    stop: int | None = wanted.stop
    while stop is not None:
        page = await log_entries.newest_page(db, wanted._replace(stop=stop), limit=limit)
        assert page.next_stop is None or page.next_stop < stop, "each page comes further"
        pages.append(page.entries)
        stop = page.next_stop
    return pages


@pytest.mark.parametrize("is_long", [False, True], ids=["short streams", "long streams"])
async def test_pages_from_the_end_have_each_wanted_entry_once(
    db: Database, log_id: int, is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_long:
        monkeypatch.setattr(replay, "STREAM_EVENTS_MAX", 2)
        monkeypatch.setattr(replay, "WINDOW_POSITIONS", 130)
    monkeypatch.setattr(log_entries, "LOOKED_AT_MAX", 400)
    await fill(db, log_id)
    rare = [position for position in range(SIZE) if position % RARE_EVERY == 7]
    of_d7 = [position for position in range(SIZE) if position % 20 == 7 and position not in rare]
    everything = Wanted(log_id, 0, SIZE)
    for wanted, positions in (
        (everything, range(SIZE)),
        (Wanted(log_id, 10, 2_000), range(10, 2_000)),
        (everything._replace(types=RARE), rare),
        (everything._replace(actor="system"), rare),
        (everything._replace(subject="user/"), rare),
        (everything._replace(subject="device/d7"), of_d7),
        (everything._replace(subject="device/d"), []),
        (everything._replace(subject="device/d7", types=RARE), []),
    ):
        pages = await all_pages(db, wanted, limit=70)
        assert all(len(page) <= 70 for page in pages)
        found = [position for page in pages for position, _, _ in page]
        assert found == list(positions)[::-1], wanted


async def test_a_name_of_no_event_is_refused() -> None:
    assert log_entries.types_of(["MemberChanged"]) == RARE
    with pytest.raises(UnknownType, match="MemberChangd"):
        log_entries.types_of(["MemberChanged", "MemberChangd"])


async def test_postgres_finds_rare_subjects_by_their_index(postgres_url: str) -> None:
    fetched = Statement("""\
SELECT CAST(sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) AS bigint)
FROM pg_stat_xact_user_tables
WHERE relname = 'events'""")
    async with opened(postgres_url) as db:
        log_id = await log_of(db)
        async with db.snapshot() as snapshot:
            [[before]] = await snapshot.read(fetched)
            wanted = Wanted(log_id, 0, SIZE, subject="user/")
            page = await log_entries.newest_page(cast("Database", snapshot), wanted, limit=50)
            [[after]] = await snapshot.read(fetched)
    assert len(page.entries) == 3
    assert after - before <= 2 * len(page.entries)


async def log_of(db: Database) -> int:
    async with db.transaction() as tx:
        log_id = await log.create(tx, "acme")
    await fill(db, log_id)
    return log_id

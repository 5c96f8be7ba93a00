"""A pruned entry that can't be read here is answered with a reason, on each way to it."""

from collections.abc import Sequence

import pytest

from firmtrail.database import stubs
from firmtrail.database.database import Database
from firmtrail.database.entry_archive import Stub
from firmtrail.database.stubs import EntriesAway
from firmtrail.eventstore import log
from tests.losses import owned
from tests.service.site import P, Site

READS = (
    f"{P}/events/{{}}",
    f"{P}/events?from=0",
    f"{P}/events?newest_first=1&limit=2",
    f"{P}/log/tile/entries/000.p/{{1}}",
    "/console/acme/log",
    "/console/acme/log/1/{}",
)


class Archive:
    """Has these texts, or can't be read."""

    def __init__(self, texts: dict[Stub, str] | None) -> None:
        self._texts = texts

    async def found(self, stubs: Sequence[Stub]) -> dict[Stub, str]:
        if self._texts is None:
            raise EntriesAway("The archive can't be read now.")
        return {stub: self._texts[stub] for stub in stubs}


async def prune(db: Database, url: str, place: tuple[int, int]) -> tuple[Stub, str]:
    """Puts a stub in place of the entry at (log id, position); returns it with the text."""
    log_id, position = place
    [(_, _, text)] = await db.read(log.page(log_id, position, position + 1, 1))
    stub = stubs.of(log_id, position, text)
    async with owned(url) as run:
        await run(f"UPDATE events SET entry = '{stub}' WHERE position = {position}")
    return stub, text


@pytest.mark.parametrize("path", READS)
async def test_a_pruned_entry_is_read_in_the_archive_or_a_problem_says_why_not(
    fleet: Site, db: Database, database_url: str, path: str
) -> None:
    await fleet.report({"version": "1.0.1", "report_id": "r1"})
    log_id = (await log.newest(db, "acme"))[0].log_id
    last = (await log.head(db, log_id)).size - 1
    before = await fleet.get(path.format(last, last + 1))
    assert before.status == 200
    stub, text = await prune(db, database_url, (log_id, last))
    place, served = path.format(last, last + 1), fleet.services.db
    for archive, status, word in (
        (None, 410, "Ask its operator to name it with --archive"),
        (Archive(None), 503, "can&#39;t be read now" if "console" in path else "can't be read now"),
    ):
        served.archive = archive
        answer = await fleet.get(place)
        assert answer.status == status
        assert word in answer.body.decode()
    served.archive = Archive({stub: text})
    again = await fleet.get(place)
    assert again.status == 200
    if "console" not in path and "events?" not in path:
        assert again.body == before.body

"""A log that the benchmarks write by COPY is one that the service could have written."""

from benchmarks import fleet
from benchmarks.postgres_fill import Filling
from firmtrail.eventstore import log
from firmtrail.projections.fleet_versions import BUCKET_EVENTS
from firmtrail.recording.recorder import Recorder
from firmtrail.schema import checks
from tests.databases import new_log, opened
from tests.fleet import receipts, report
from tests.replay import differences

DEVICES = 40
REPORTS = 2 * BUCKET_EVENTS


async def test_a_log_filled_by_copy_has_the_rows_of_its_events(postgres_url: str) -> None:
    async with opened(postgres_url) as db:
        log_id = await new_log(db, fleet.PROJECT)
        before = await log.head(db, log_id)
        filling = Filling(postgres_url, DEVICES)
        for reports in (REPORTS // 3, REPORTS - REPORTS // 3):
            await filling.add(reports)
            assert await differences(db, log_id) == []
        assert (await log.head(db, log_id)).size == before.size + DEVICES + REPORTS


async def test_a_log_filled_by_copy_is_guarded_and_takes_reports(postgres_url: str) -> None:
    async with opened(postgres_url) as db:
        log_id = await new_log(db, fleet.PROJECT)
        await Filling(postgres_url, DEVICES).add(DEVICES)
        assert await checks.postgres_triggers(db) == []
        size = (await log.head(db, log_id)).size
        sent = report(device=fleet.name(DEVICES - 1), report_id="a")
        [receipt] = await receipts(Recorder(db), log_id, sent)
        assert receipt.position == size
        assert await differences(db, log_id) == []

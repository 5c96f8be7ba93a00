"""Tests that metrics count commits, events, queues and rejected credentials, on both back ends."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from firmtrail.database.database import Given, Statement, Unavailable
from firmtrail.database.sqlite import SQLite
from firmtrail.recording.commit import Commit
from tests.databases import raw
from tests.service.site import Site

APPENDED = ("firmtrail_events_appended_total", "FirmwareInstalled")
REJECTED = "firmtrail_rejected_attempts_total"
FILL = """\
INSERT INTO device_seen (project, device, seen_at_ms)
SELECT 'acme', given.device, 1
FROM given
WHERE TRUE"""


async def scraped(site: Site) -> dict[tuple[str, ...], float]:
    """Returns the values, by the name and the values of the labels."""
    text = (await site.call("GET", "/metrics")).body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_each_commit_is_counted_with_the_types_of_its_events(site: Site) -> None:
    before = await scraped(site)
    reports = [{"version": f"1.0.{number}", "seq": number} for number in range(5)]
    await site.report(*reports)
    await site.report(*reports)  # all are known: a commit without events
    after = await scraped(site)
    assert after[APPENDED] - before.get(APPENDED, 0) == 5
    for name, grown in (("commit_duration_seconds_count", 2), ("commit_events_sum", 5)):
        key = (f"firmtrail_{name}",)
        assert after[key] - before[key] == grown, name
    assert after["firmtrail_log_events",] >= before["firmtrail_log_events",]
    assert after["firmtrail_waiting_commands",] == 0


async def test_a_commit_that_the_database_does_not_make_is_counted(site: Site) -> None:
    db = site.services.db

    async def commit_in_vain(commit: Commit) -> None:
        if not isinstance(db, SQLite):
            await commit.run(Statement("SELECT pg_terminate_backend(pg_backend_pid())"))
        large = [(f"d{number}" * 500,) for number in range(500)]
        await commit.run(Statement(FILL, (), Given("device text", large)))

    if isinstance(db, SQLite):
        await raw(db, "PRAGMA max_page_count=1")  # SQLite keeps the pages that it has
    with pytest.raises(Unavailable):
        await site.services.recorder.act(site.log_id, commit_in_vain)
    assert (await scraped(site))["firmtrail_failed_commits_total",] == 1


async def test_a_refused_commit_is_not_counted_as_a_fault_of_the_database(site: Site) -> None:
    ahead_ms = int(time.time() * 1000) + 3_600_000
    text = "UPDATE log_heads SET recorded_at_ms = $1 WHERE log_id = $2"
    async with site.services.db.transaction() as tx:
        await tx.run(Statement(text, (ahead_ms, site.log_id)))
    assert (await site.report({"version": "1.0.0"})).status == 503
    assert (await scraped(site))["firmtrail_failed_commits_total",] == 0


async def test_wrong_credentials_are_counted_and_so_are_those_past_a_limit(site: Site) -> None:
    site.credentials["wrong"] = "fts_" + "x" * 43
    for _ in range(3):
        assert (await site.report({"version": "1.0.0"}, caller="wrong")).status == 401
    assert (await scraped(site))[REJECTED, "wrong"] == 3
    for _ in range(700):  # a new minute may begin meanwhile
        if (await site.report({"version": "1.0.0"}, caller="wrong")).status == 429:
            break
    assert (await scraped(site))[REJECTED, "limited"] == 1


async def test_a_follower_that_is_up_to_date_says_when(site: Site) -> None:
    publisher = site.services.publisher
    assert publisher is not None
    began_s = time.time()
    await publisher.following.round()
    found = await scraped(site)
    assert found["firmtrail_follower_success_timestamp_seconds", "publisher"] >= began_s
    assert found["firmtrail_database_connections",] >= found["firmtrail_database_connections_busy",]
    assert found["firmtrail_open_requests", "stream"] == 0
    assert found["process_resident_memory_bytes",] > 0

"""Tests that metrics count commits, events, queues and rejected credentials, on both back ends."""

import time

from prometheus_client.parser import text_string_to_metric_families

from firmtrail.database.database import Statement
from tests.service.site import Site

APPENDED = ("firmtrail_events_appended_total", "FirmwareInstalled")
REJECTED = "firmtrail_rejected_attempts_total"


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


async def test_a_commit_that_is_not_made_is_counted(site: Site) -> None:
    ahead_ms = int(time.time() * 1000) + 3_600_000
    text = "UPDATE log_heads SET recorded_at_ms = $1 WHERE log_id = $2"
    async with site.services.db.transaction() as tx:
        await tx.run(Statement(text, (ahead_ms, site.log_id)))
    assert (await site.report({"version": "1.0.0"})).status == 503
    assert (await scraped(site))["firmtrail_failed_commits_total",] == 1


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

"""The log records the head of the access record before an auditor gets a checkpoint, and daily."""

from typing import Any

import pytest

from firmtrail.eventstore import log
from firmtrail.http import sealing
from firmtrail.publishing import checkpoint
from tests.databases import write
from tests.people import recorded
from tests.service.site import P, Site


async def seals(site: Site) -> list[Any]:
    events = await recorded(site.services.db, site.log_id)
    return [event for stream, event in events if stream == "access-record/acme"]


async def covered(site: Site, path: str = "/log/checkpoint", caller: str = "auditor") -> int:
    answer = await site.get(f"{P}{path}", caller)
    assert answer.status == 200, answer.body
    return checkpoint.parse(answer.body.decode()).size


@pytest.mark.parametrize("caller", ["auditor", "admin"])
async def test_a_checkpoint_that_an_auditor_gets_covers_all_earlier_reads(
    site: Site, caller: str
) -> None:
    for number in (1, 2, 3):
        await site.get(f"{P}/events", "auditor")
        await site.get(f"{P}/members", "admin", Accept="text/csv")
        size = await covered(site, caller=caller)
        assert [each.size for each in await seals(site)] == [
            2 * each for each in range(1, number + 1)
        ]
        assert size == (await log.head(site.services.db, site.log_id)).size


async def test_nothing_is_sealed_twice(site: Site) -> None:
    await site.get(f"{P}/events", "auditor")
    sizes = {await covered(site) for _ in range(3)}
    assert len(sizes) == len(await seals(site)) == 1


async def test_a_caller_without_a_credential_seals_nothing(site: Site) -> None:
    await site.call("PATCH", P, caller="admin", json={"public_checkpoint": True})
    await site.get(f"{P}/events", "auditor")
    assert site.services.publisher is not None
    await site.services.publisher.following.round()
    answer = await site.call("GET", f"{P}/log/checkpoint")
    assert answer.status == 200
    assert await seals(site) == []
    size = await covered(site)
    assert [each.size for each in await seals(site)] == [1]
    assert size == (await log.head(site.services.db, site.log_id)).size


async def test_a_log_that_takes_no_appends_still_serves_its_checkpoint(site: Site) -> None:
    assert site.services.publisher is not None
    await site.services.publisher.following.round()
    size = await covered(site)
    await site.get(f"{P}/events", "auditor")
    await write(site.services.db, "UPDATE log_heads SET recorded_at_ms = $1", 1 << 45)
    assert await covered(site) == size


async def test_a_record_that_waits_for_a_day_is_sealed(site: Site) -> None:
    await site.get(f"{P}/events", "auditor")
    now_ms = site.services.access.now_ms()
    await sealing.seal_old(site.services, now_ms - sealing.AGE_MS_MAX)
    assert await seals(site) == []
    await sealing.seal_old(site.services, now_ms + 1)
    assert [each.size for each in await seals(site)] == [1]
    assert "seals" in site.services.readiness.tasks

"""Sets up and shows rollouts with plans and windows."""

from datetime import UTC, datetime, timedelta
from typing import Any

from firmtrail.events.times import time_text
from tests.clock import set_clock
from tests.service.site import D, P, Site
from tests.serving import Answer


async def check_in(site: Site) -> Any:
    return (await site.get(f"{D}/update", "device")).json


async def shown(site: Site, rollout: str, query: str = "") -> Any:
    answer = await site.get(f"{P}/rollouts/{rollout}{query}")
    assert answer.status == 200, answer.body
    return answer.json


async def events_of(site: Site, kind: str) -> list[Any]:
    found = await site.get(f"{P}/events?type={kind}", "auditor")
    return found.body.splitlines()


def in_seconds(seconds: float) -> str:
    return time_text(int((datetime.now(UTC) + timedelta(seconds=seconds)).timestamp() * 1000))


async def set_up(site: Site, **settings: Any) -> Answer:
    answer = await site.call("PATCH", P, caller="admin", json=settings)
    assert answer.status == 200, answer.body
    return answer


def closed_window() -> dict[str, Any]:
    opening = datetime.now(UTC) + timedelta(hours=12)
    return {"cron": f"{opening.minute} {opening.hour} * * *", "duration_s": 60, "timezone": "UTC"}


async def stop_clocks(site: Site) -> int:
    """Stops the clocks at the present time, and returns it."""
    now_ms = site.services.access.now_ms()
    await set_clocks(site, now_ms)
    return now_ms


async def set_clocks(site: Site, now_ms: int) -> None:
    """Stops the service's clock at a time, and the one that gives events their times."""
    site.services.access._clock = lambda: now_ms / 1000
    await set_clock(site.services.db, now_ms)

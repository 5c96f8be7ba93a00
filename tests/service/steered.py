"""Starts rollouts over HTTP for tests."""

from typing import Any

from firmtrail.rules.silence import LAG_MS
from tests.databases import write
from tests.service.site import P, Site
from tests.serving import Answer

SILENT_S = 300
"""How long a device may be silent, in tests of rollouts that say so."""


async def post(site: Site, path: str, body: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.call("POST", f"{P}/{path}", caller="operator", json=body or {}, headers=named)


async def roll_out(site: Site, version: str = "1.1.0", **members: Any) -> str:
    answer = await post(site, "rollouts", {"model": "m", "version": version, **members})
    assert answer.status == 201, answer.body
    rollout: str = answer.json["id"]
    return rollout


async def age(site: Site, ms: int = SILENT_S * 1000 + LAG_MS + 60_000) -> None:
    """Makes every offer, report and call earlier by so much."""
    db = site.services.db
    await site.services.access.seen.flush()
    await write(db, "UPDATE device_offers SET offered_at_ms = offered_at_ms - $1", ms)
    await write(db, "UPDATE device_current SET recorded_at_ms = recorded_at_ms - $1", ms)
    await write(db, "UPDATE device_seen SET seen_at_ms = seen_at_ms - $1", ms)

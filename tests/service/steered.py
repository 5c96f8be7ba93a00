"""Starts rollouts and checks in over HTTP for tests."""

from typing import Any

from firmtrail.rules.silence import LAG_MS
from tests.databases import write
from tests.service.site import D, P, Site
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


async def check_in(site: Site, query: str = "", caller: str = "device", **headers: str) -> Answer:
    answer = await site.get(f"{D}/update{query}", caller, **headers)
    assert int(answer.headers["Firmtrail-Poll-After"]) in range(240, 361)
    return answer

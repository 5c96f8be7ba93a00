"""Reports and reads deliveries, for tests of webhooks."""

import asyncio
from typing import Any

from tests.patience import PATIENCE_S
from tests.service.site import P, Site


async def shown(site: Site, webhook: Any, path: str = "") -> Any:
    answer = await site.get(f"{P}/webhooks/{webhook['id']}{path}")
    assert answer.status == 200, answer.body
    return answer.json


async def report(site: Site, version: str, device: str = "d1") -> int:
    path = f"{P}/devices/{device}"
    answer = await site.report({"version": version}, caller="operator", path=path)
    return int(answer.json["position"])


async def deliveries(site: Site, webhook: Any, count: int) -> list[Any]:
    async with asyncio.timeout(PATIENCE_S):
        while len(found := (await shown(site, webhook, "/deliveries"))["items"]) < count:
            await asyncio.sleep(0.02)
    return list(found)

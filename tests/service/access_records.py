"""Reads the access record for tests."""

from typing import Any

from tests.service.site import P, Site


async def records(site: Site, query: str = "") -> list[dict[str, Any]]:
    answer = await site.get(f"{P}/access-record?limit=500{query}")
    assert answer.status == 200
    items: list[dict[str, Any]] = answer.json["items"]
    return items

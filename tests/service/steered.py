"""Starts rollouts over HTTP for tests."""

from typing import Any

from tests.service.site import Answer, P, Site


async def post(site: Site, path: str, body: Any = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.call("POST", f"{P}/{path}", caller="operator", json=body or {}, headers=named)


async def roll_out(site: Site, version: str = "1.1.0", **members: Any) -> str:
    answer = await post(site, "rollouts", {"model": "m", "version": version, **members})
    assert answer.status == 201, answer.body
    rollout: str = answer.json["id"]
    return rollout

"""Lets devices join a project in tests."""

from typing import Any

from tests.service.site import P, Site
from tests.serving import Answer


async def issue(site: Site, caller: str = "operator", **terms: Any) -> Answer:
    body = {"project": "acme", "role": "gateway", "registers": True, **terms}
    return await site.call("POST", "/api/v1/tokens", caller=caller, json=body)


async def let_join(site: Site, **terms: Any) -> str:
    """Issues a token that registers devices, as the caller "join"; returns its id."""
    answer = await issue(site, **terms)
    assert answer.status == 201, answer.body
    site.credentials["join"] = answer.json["token"]
    return str(answer.json["id"])


async def set_enrolment(site: Site, value: str) -> None:
    assert (await site.call("PATCH", P, caller="admin", json={"enrolment": value})).json[
        "enrolment"
    ] == value

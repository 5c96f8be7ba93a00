"""Speaks hawkBit's protocol for devices as its clients do, request by request."""

from dataclasses import dataclass
from typing import Any

import msgspec

from tests.service.site import P, Site
from tests.serving import Answer


@dataclass(frozen=True)
class Ddi:
    """A device that speaks hawkBit's protocol."""

    site: Site
    base: str = "/acme/controller/v1/d1"
    authorization: str = ""

    async def call(self, method: str, path: str = "", body: Any = None, **headers: str) -> Answer:
        own = f"TargetToken {self.site.credentials['device']}"
        sent = {"Authorization": self.authorization or own}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json;charset=UTF-8"
            data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        target = path if path.startswith("http") else f"{self.base}{path}"
        target = target.removeprefix(str(self.site.client.make_url("")).rstrip("/"))
        return await self.site.call(method, target, data=data, headers=sent)

    async def poll(self) -> dict[str, Any]:
        answer = await self.call("GET")
        assert answer.status == 200, answer.body
        polled: dict[str, Any] = answer.json
        return polled

    async def links(self) -> dict[str, str]:
        found = (await self.poll()).get("_links", {})
        return {name: link["href"] for name, link in found.items()}

    async def shown(self) -> set[str]:
        """Returns what the device is asked to do, apart from what it is."""
        return set(await self.links()) & {"deploymentBase", "cancelAction"}

    async def deployment(self) -> dict[str, Any]:
        """Polls, and reads the action that the answer links to."""
        answer = await self.call("GET", (await self.links())["deploymentBase"])
        assert answer.status == 200, answer.body
        described: dict[str, Any] = answer.json
        return described

    async def say(
        self, action: object, execution: str, finished: str = "none", **members: Any
    ) -> int:
        """Sends feedback on an action; `to` names another resource, `progress` how far it is."""
        to, progress = members.pop("to", "deploymentBase"), members.pop("progress", None)
        status = {"execution": execution, "result": {"finished": finished}, **members}
        if progress:
            status["result"]["progress"] = progress
        body = {"id": str(action), "time": "20261128T150240", "status": status}
        return (await self.call("POST", f"/{to}/{action}/feedback", body)).status


async def add_artifact(site: Site, version: str = "1.1.0", name: str = "app.swu") -> bytes:
    content = f"{name} of {version}".encode() * 100
    path = f"{P}/releases/m/{version}/artifacts/{name}"
    answer = await site.call("PUT", path, caller="operator", data=content)
    assert answer.status == 201, answer.body
    return content


async def events(site: Site, *names: str) -> list[tuple[str, dict[str, Any]]]:
    """Returns (name, data) of the events of d1 with these names."""
    answer = await site.get(f"{P}/events?stream=device/d1", "auditor")
    entries = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    named = [(each["type"].split(".")[1], each["data"]) for each in entries]
    return [each for each in named if each[0] in names]


async def reports(site: Site) -> list[str]:
    """Returns the statuses that d1 reported on its way to later versions than its first."""
    progress = await site.get(f"{P}/devices/d1/history?progress=true")
    rows = [each for each in progress.json["items"] if each["version"] != "1.0.0"]
    return [each["status"] for each in reversed(rows)]


async def size(site: Site) -> int:
    return int((await site.get(P + "/devices")).headers["Firmtrail-Log-Size"])

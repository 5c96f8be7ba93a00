"""Speaks hawkBit's Direct Device Integration API for a simulated fleet."""

from typing import Any

import msgspec

from firmtrail.simulate.client import Client, ServiceAnswer
from firmtrail.simulate.foreign_play import ForeignDevice, ForeignOffer, InstallStatus

JSON = "application/json"

_FEEDBACK: dict[InstallStatus, dict[str, Any]] = {
    "downloading": {
        "execution": "proceeding",
        "result": {"finished": "none", "progress": {"cnt": 0, "of": 1}},
    },
    "installing": {"execution": "proceeding", "result": {"finished": "none"}},
    "installed": {"execution": "closed", "result": {"finished": "success"}},
    "failed": {"execution": "closed", "result": {"finished": "failure"}},
}


class HawkbitSpeech:
    """Speaks for devices of one project, each with its secret as its TargetToken."""

    suffix = ".swu"
    can_fail = True

    def __init__(self, client: Client) -> None:
        self._client = client

    def image(self, model: str, version: str, data: bytes) -> bytes:  # noqa: ARG002 (as others)
        return data

    async def introduce(self, device: ForeignDevice) -> None:
        """Sends the running version as an attribute."""
        body = {"mode": "merge", "data": {"firmtrail.version": device.runs}}
        await self._call(device, "PUT", "/configData", body)

    async def ask(self, device: ForeignDevice) -> ForeignOffer | None:
        base = await self._call(device, "GET", "")
        links = msgspec.json.decode(base.body).get("_links", {})
        if "deploymentBase" not in links:
            return None
        answer = await self._at(device, "GET", links["deploymentBase"]["href"])
        shown = msgspec.json.decode(answer.body)
        [chunk] = shown["deployment"]["chunks"]
        [artifact] = chunk["artifacts"]
        href = artifact["_links"]["download-http"]["href"]
        return ForeignOffer(shown["id"], chunk["version"], href, artifact["hashes"]["sha256"])

    async def load(self, device: ForeignDevice, offer: ForeignOffer) -> bytes:
        return (await self._at(device, "GET", offer.url)).body

    async def report(
        self, device: ForeignDevice, offer: ForeignOffer, status: InstallStatus
    ) -> None:
        body = {"id": offer.id, "status": {**_FEEDBACK[status], "details": [status]}}
        await self._call(device, "POST", f"/deploymentBase/{offer.id}/feedback", body)

    async def _call(
        self, device: ForeignDevice, method: str, below: str, body: Any = None
    ) -> ServiceAnswer:
        path = f"/{self._client.project}/controller/v1/{device.name}{below}"
        return await self._at(device, method, path, body)

    async def _at(
        self, device: ForeignDevice, method: str, url: str, body: Any = None
    ) -> ServiceAnswer:
        encoded = None if body is None else msgspec.json.encode(body)
        headers = {"Authorization": f"TargetToken {device.device.secret}", "Content-Type": JSON}
        answer = await self._client.call(method, url, headers, encoded)
        if answer.status != 200:
            self._client.tally.differ(f"{device.name}: {method} {url} was answered {answer.status}")
        return answer


async def speech(client: Client) -> HawkbitSpeech:
    """Returns the speech of a project."""
    return HawkbitSpeech(client)

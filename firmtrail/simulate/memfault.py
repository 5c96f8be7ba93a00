"""Speaks the HTTP API of Memfault's SDKs for a simulated fleet."""

from urllib.parse import urlencode

import msgspec

from firmtrail.simulate.client import Client
from firmtrail.simulate.foreign_play import ForeignDevice, ForeignOffer, InstallStatus


class MemfaultSpeech:
    """Speaks for devices of one model, with a project key. A device says with each question what
    it runs, and nothing else."""

    suffix = ".bin"
    can_fail = False

    def __init__(self, client: Client, project_key: str) -> None:
        self._client = client
        self._headers = {"Memfault-Project-Key": project_key}

    def image(self, model: str, version: str, data: bytes) -> bytes:  # noqa: ARG002 (as others)
        return data

    async def introduce(self, device: ForeignDevice) -> None:
        await self.ask(device)

    async def ask(self, device: ForeignDevice) -> ForeignOffer | None:
        asked = {
            "device_serial": device.name,
            "hardware_version": device.model,
            "software_type": "main",
            "current_version": device.runs,
        }
        path = f"/api/v0/releases/latest?{urlencode(asked)}"
        answer = await self._client.call("GET", path, self._headers)
        if answer.status == 204:
            return None
        shown = msgspec.json.decode(answer.body)
        [artifact] = shown["artifacts"]
        return ForeignOffer("", shown["version"], artifact["url"], artifact["sha256"])

    async def load(self, device: ForeignDevice, offer: ForeignOffer) -> bytes:  # noqa: ARG002
        return (await self._client.call("GET", offer.url, {})).body

    async def report(
        self,
        device: ForeignDevice,
        offer: ForeignOffer,  # noqa: ARG002 (as others)
        status: InstallStatus,
    ) -> None:
        """Says what it runs once it runs it; the SDKs report no steps on the way."""
        if status == "installed":
            await self.ask(device)


async def speech(client: Client) -> MemfaultSpeech:
    """Returns the speech of a project; a token of role gateway is its project key."""
    return MemfaultSpeech(client, await client.gateway_token())

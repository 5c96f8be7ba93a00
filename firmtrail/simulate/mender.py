"""Speaks Mender's device API for a simulated fleet."""

import asyncio
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmtrail.simulate import mender_image
from firmtrail.simulate.client import Client
from firmtrail.simulate.foreign_play import ForeignDevice, ForeignOffer, InstallStatus

AUTH = "/api/devices/v1/authentication/auth_requests"
NEXT = "/api/devices/v2/deployments/device/deployments/next"
DEPLOYMENTS = "/api/devices/v1/deployments/device/deployments"
JSON = "application/json"

KEYS_PER_TOKEN = 1_000
"""How many devices offer their keys through one token: a service takes no more within a minute."""

_STATUS = {"installed": "success", "failed": "failure"}
_LOG = {"messages": [{"level": "error", "message": "The simulated install failed."}]}


@dataclass
class _Identity:
    """Holds what a device authenticates with, and the token that it got last."""

    key: Ed25519PrivateKey
    tenant: str
    token: str = ""


class MenderSpeech:
    """Speaks for devices of one project. Each has its own key, signs with it whenever it starts,
    and speaks with the token that it gets for that."""

    suffix = ".mender"
    can_fail = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._identities: dict[str, _Identity] = {}
        self._tenant = ""
        self._renewing = asyncio.Lock()

    def image(self, model: str, version: str, data: bytes) -> bytes:
        return mender_image.image(f"{model}-{version}", model, data)

    async def introduce(self, device: ForeignDevice) -> None:
        """Offers the device's key, and says what it runs."""
        async with self._renewing:
            if len(self._identities) % KEYS_PER_TOKEN == 0:
                self._tenant = await self._client.gateway_token(registers=True)
            key = Ed25519PrivateKey.generate()
            self._identities[device.name] = _Identity(key, self._tenant)
        await self._authenticate(device)
        await self.ask(device)

    async def ask(self, device: ForeignDevice) -> ForeignOffer | None:
        named = {"artifact_name": f"{device.model}-{device.runs}", "device_type": device.model}
        body = await self._call(device, "POST", NEXT, {"device_provides": named})
        if not body:
            return None
        shown = msgspec.json.decode(body)
        described = shown["artifact"]
        if described["device_types_compatible"] != [device.model]:
            self._client.tally.differ(f"{device.name}: was offered {described}")
        version = described["artifact_name"].removeprefix(f"{device.model}-")
        return ForeignOffer(shown["id"], version, described["source"]["uri"], digest="")

    async def load(self, device: ForeignDevice, offer: ForeignOffer) -> bytes:  # noqa: ARG002
        return (await self._client.call("GET", offer.url, {})).body

    async def report(
        self, device: ForeignDevice, offer: ForeignOffer, status: InstallStatus
    ) -> None:
        """Says how far the device is. The new image starts before it says so, and a failure is
        followed by its log."""
        path = f"{DEPLOYMENTS}/{offer.id}"
        if status == "installed":
            await self._authenticate(device)
        await self._call(device, "PUT", f"{path}/status", {"status": _STATUS.get(status, status)})
        if status == "failed":
            await self._call(device, "PUT", f"{path}/log", _LOG)

    async def _authenticate(self, device: ForeignDevice) -> None:
        own = self._identities[device.name]
        body = msgspec.json.encode(
            {
                "id_data": msgspec.json.encode({"device_id": device.name}).decode(),
                "pubkey": _public(own.key),
                "tenant_token": own.tenant,
            }
        )
        signature = b64encode(own.key.sign(body)).decode()
        headers = {"X-Men-Signature": signature, "Content-Type": JSON}
        answer = await self._client.call("POST", AUTH, headers, body)
        if answer.status != 200:
            self._client.tally.differ(f"{device.name}: its key was answered {answer.status}")
            return
        own.token = answer.body.decode()

    async def _call(self, device: ForeignDevice, method: str, path: str, body: Any) -> bytes:
        """Sends a request, and returns the answer's body."""
        token = self._identities[device.name].token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": JSON}
        answer = await self._client.call(method, path, headers, msgspec.json.encode(body))
        if answer.status not in {200, 204}:
            self._client.tally.differ(
                f"{device.name}: {method} {path} was answered {answer.status}"
            )
            return b""
        return answer.body


def _public(key: Ed25519PrivateKey) -> str:
    encoded = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


async def speech(client: Client) -> MenderSpeech:
    """Returns the speech of a project."""
    return MenderSpeech(client)

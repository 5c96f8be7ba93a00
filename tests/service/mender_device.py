"""Plays a device that speaks Mender's API, for tests over HTTP."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.service.site import Site
from tests.serving import Answer

AUTH = "/api/devices/v1/authentication/auth_requests"
NEXT = "/api/devices/v2/deployments/device/deployments/next"
OLD_NEXT = "/api/devices/v1/deployments/device/deployments/next"
DEPLOYMENTS = "/api/devices/v1/deployments/device/deployments"
INVENTORY = "/api/devices/v1/inventory/device/attributes"

type PrivateKey = RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey


def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    return generate_private_key(65537, bits)


def signature(key: PrivateKey, body: bytes) -> str:
    match key:
        case RSAPrivateKey():
            signed = key.sign(body, padding.PKCS1v15(), SHA256())
        case Ed25519PrivateKey():
            signed = key.sign(body)
        case _:
            signed = key.sign(body, ec.ECDSA(SHA256()))
    return b64encode(signed).decode()


def public(key: PrivateKey) -> str:
    encoded = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


@dataclass
class MenderDevice:
    """A device with a key; `token` is what it got for its signature."""

    site: Site
    tenant: str = ""
    name: str = "one"
    key: PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    token: str = ""
    runs: str = "1.0.0"
    device_type: str = "m"

    async def authenticate(self, **headers: str) -> Answer:
        identity = msgspec.json.encode({"mac": self.name}).decode()
        asked = {"id_data": identity, "pubkey": public(self.key), "tenant_token": self.tenant}
        body = msgspec.json.encode(asked)
        sent = {"X-Men-Signature": signature(self.key, body)} | headers
        answer = await self.site.call("POST", AUTH, data=body, headers=sent)
        self.token = answer.body.decode() if answer.status == 200 else self.token
        return answer

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        sent = {"Authorization": f"Bearer {self.token}"}
        return await self.site.call(method, path, json=body, headers=sent)

    async def next(self, path: str = NEXT) -> Answer:
        provides = {"artifact_name": self.runs, "device_type": self.device_type}
        body = provides if path == OLD_NEXT else {"device_provides": provides}
        return await self.call("POST", path, body)

    async def status(self, deployment: str, status: str) -> int:
        path = f"{DEPLOYMENTS}/{deployment}/status"
        return (await self.call("PUT", path, {"status": status})).status

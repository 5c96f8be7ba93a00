"""Signs deliveries as Standard Webhooks says (standardwebhooks.com, Signature scheme).

A secret is `whsec_` and 32 random bytes in base64. While an old secret is still valid, a delivery
has two signatures, with a space between them: a receiver accepts either.
"""

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence

from firmtrail.events.times import DAY_MS

PREFIX = "whsec_"
SECRET_BYTES = 32
OLD_SECRET_MS = DAY_MS
"""How long an old secret still signs after a new one was made."""


def new_secret() -> str:
    return PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(
    message_id: str, timestamp_s: int, body: bytes, keys: Sequence[str]
) -> Mapping[str, str]:
    """Returns the three headers of a delivery, signed with each of the secrets."""
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(_signature(key, signed) for key in keys),
    }


def _signature(secret: str, signed: bytes) -> str:
    key = b64decode(secret.removeprefix(PREFIX))
    return f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}"

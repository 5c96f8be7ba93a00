"""Makes and reads the tokens that a device gets for its signature. Pure.

A token is a JSON Web Token (RFC 7519) signed with HMAC-SHA256, under a key that all servers of the
database share. It names the device and the device's key, and it is valid for a day. It is stored
nowhere: a request with it is checked by the key that it names, so it ends with that key.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import msgspec

VALID_S = 24 * 3600

_HEADER = '{"alg":"HS256","typ":"JWT"}'
_PURPOSE = b"firmtrail: tokens of Mender's devices"
"""Separates these signatures from the others that are made under the same shared key."""


class DeviceClaims(msgspec.Struct, frozen=True):
    """Holds the claims of a token."""

    project: str
    device: str
    key: str
    """The SHA-256 of the device's public key, in hex."""
    exp: int
    """When it expires, in seconds since 1970."""


def issue(shared_key: bytes, claims: DeviceClaims) -> str:
    """Returns the token with these claims."""
    signed = f"{_encoded(_HEADER.encode())}.{_encoded(msgspec.json.encode(claims))}"
    return f"{signed}.{_signature(shared_key, signed)}"


def read(shared_key: bytes, text: str, now_s: float) -> DeviceClaims | None:
    """Returns the claims of a token; None if it is none of ours, or has expired."""
    signed, _, signature = text.rpartition(".")
    expected = _signature(shared_key, signed)
    if not hmac.compare_digest(signature.encode(errors="replace"), expected.encode()):
        return None
    encoded = signed.partition(".")[2]
    claims = msgspec.json.decode(urlsafe_b64decode(encoded + "=="), type=DeviceClaims)
    return claims if now_s < claims.exp else None


def _encoded(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _signature(shared_key: bytes, signed: str) -> str:
    key = hmac.digest(shared_key, _PURPOSE, sha256)
    return _encoded(hmac.digest(key, signed.encode(errors="surrogateescape"), sha256))

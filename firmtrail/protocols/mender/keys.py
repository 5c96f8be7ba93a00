"""Checks the signature of a device over the bytes of its request, with the key that it sends.

Mender's clients have an RSA key by default, of 3 072 bits, or one for ECDSA or Ed25519. RSA signs
with PKCS #1 v1.5, and RSA and ECDSA sign the SHA-256 of the bytes. The key is hostile input: others
and those that are slow to check are refused.
"""

from base64 import b64decode
from hashlib import sha256

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

RSA_BITS_MIN, RSA_BITS_MAX = 2_048, 8_192
EXPONENT_BITS_MAX = 32


class WeakKey(ValueError):
    """Reports a key that is too short, too slow to check, or of an unknown kind."""


def signer(pem: str, signature: str, body: bytes) -> str | None:
    """Returns the SHA-256 of the public key in hex, if the signature, in base64, is of these bytes
    by this key."""
    try:
        key = load_pem_public_key(pem.encode())
        _verify(key, b64decode(signature, validate=True), body)
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return None
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(encoded).hexdigest()


def _verify(key: object, signature: bytes, body: bytes) -> None:
    match key:
        case RSAPublicKey():
            _check_rsa(key)
            key.verify(signature, body, padding.PKCS1v15(), SHA256())
        case ec.EllipticCurvePublicKey():
            key.verify(signature, body, ec.ECDSA(SHA256()))
        case Ed25519PublicKey():
            key.verify(signature, body)
        case _:
            raise WeakKey("an unknown kind of key")


def _check_rsa(key: RSAPublicKey) -> None:
    is_fit = RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX
    if not is_fit or key.public_numbers().e.bit_length() > EXPONENT_BITS_MAX:
        raise WeakKey("an RSA key of this size is not accepted")
